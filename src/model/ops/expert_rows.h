// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

namespace temper {

// Rows of tokens on their way to experts and back, without graphs.

/// onto + the sum of some rows of `rows`, in fp32 and in their order, rounded once. `onto` may be
/// undefined. Shapes: onto [T, n], rows [N, n], places [T, k] int64; returns [T, n].
at::Tensor sum_rows(const at::Tensor& onto, const at::Tensor& rows, const at::Tensor& places);

/// Each row times its factor. Shapes: x [n, size], factors [n] fp32.
at::Tensor weigh_rows(const at::Tensor& x, const at::Tensor& factors);

/// Of weigh_rows: multiplies `gradient` with the factors, where it lies, and writes the gradient of
/// these. Shapes: gradient [n, size], x [n, size], factors and factor_gradients [n] fp32.
void weigh_rows_backward(at::Tensor gradient, const at::Tensor& x, const at::Tensor& factors,
                         at::Tensor factor_gradients);

/// x times the sigmoid of one number a row, with a graph.
/// Shapes: x [T, size], gate [T, 1]; returns [T, size].
at::Tensor gate_rows(const at::Tensor& x, const at::Tensor& gate);

}  // namespace temper
