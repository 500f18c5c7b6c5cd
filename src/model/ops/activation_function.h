// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

namespace temper {

/// What an MLP or a bottleneck does between its products, as transformers names it.
/// Source: transformers 4.57, activations.py.
enum class ActivationFunction {
  kRelu,         ///< max(x, 0)
  kSquaredRelu,  ///< its square
  kSwish,        ///< x sigmoid(x), which is silu
  kGelu,         ///< x times the normal distribution's integral
  kGeluNew,      ///< the same by tanh
  kQuickGelu,    ///< x sigmoid(1.702 x)
};

/// "relu", "relu2", "swish", "gelu", "gelu_new", "quick_gelu".
const char* name_of(ActivationFunction function);

/// Shapes: x [T, n], fp32 on a CPU; returns the same.
at::Tensor activate(ActivationFunction function, const at::Tensor& x);

/// The gradient of x from that of `activate`'s result. Shapes: all [T, n] fp32.
at::Tensor activate_backward(ActivationFunction function, const at::Tensor& x,
                             const at::Tensor& gradient);

}  // namespace temper
