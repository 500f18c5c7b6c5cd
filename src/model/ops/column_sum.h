// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

namespace temper {

/// Sums the rows of `matrix` into `sums`, in fp32 and in an order that depends on the shape alone.
/// Shapes: matrix [T, n], sums [n].
void column_sum_out(at::Tensor sums, const at::Tensor& matrix);

/// Adds `num_rows` rows of `partial` onto the first, in their order, and writes it to `sums`.
/// Shapes: partial [num_rows, n] fp32, sums [n].
void add_partial_sums(at::Tensor sums, const at::Tensor& partial);

}  // namespace temper
