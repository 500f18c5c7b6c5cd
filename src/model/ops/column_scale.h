// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

namespace temper {

/// x with each column multiplied by its factor. Shapes: x [T, n], factors [n] fp32.
at::Tensor scale_columns(const at::Tensor& x, const at::Tensor& factors);

/// Gradients of `scale_columns`.
struct ColumnScaleGradients {
  at::Tensor x;        ///< gradient * factors [T, n].
  at::Tensor factors;  ///< The sums over rows of gradient * x [n] fp32, in an order that depends on
                       ///< the shape alone.
};
ColumnScaleGradients scale_columns_backward(const at::Tensor& gradient, const at::Tensor& x,
                                            const at::Tensor& factors);

}  // namespace temper
