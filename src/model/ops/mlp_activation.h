// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include "model/ops/activation_function.h"

namespace temper {

/// What an MLP does between its products: function(gate) * up where it has a gate, else
/// function(up).
struct MlpActivation {
  ActivationFunction function = ActivationFunction::kSwish;
  bool is_gated = true;
};

/// Shapes: x [T, 2 n], gate first, or [T, n] without a gate; returns [T, n].
/// Source: Shazeer, "GLU variants improve transformer", 2020.
at::Tensor activate_mlp(const at::Tensor& x, MlpActivation activation);

/// From the gradient of its result to that of x, without a graph. Shapes: as above.
at::Tensor activate_mlp_backward(const at::Tensor& x, MlpActivation activation,
                                 const at::Tensor& gradient);

}  // namespace temper
