// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

namespace temper {

/// The length of each row, by sums whose order depends on the shape alone.
/// Shapes: matrix [rows, columns] fp32; returns [rows].
at::Tensor row_norms(const at::Tensor& matrix);

}  // namespace temper
