// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

namespace temper {

/// Adds row t of `gradient` to row tokens[t] of `sums`, for each t: in fp32 and in token order,
/// rounded once. Shapes: sums [vocab_size, n], gradient [T, n], tokens [T] int64.
void add_rows_by_token(at::Tensor sums, const at::Tensor& gradient, const at::Tensor& tokens);

}  // namespace temper
