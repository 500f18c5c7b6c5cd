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
  /// 0: not. Else gates are at most that, `up` is between that and its negative, and then 1 more;
  /// and a row has the two by turns. So do the experts of gpt-oss.
  double bound = 0.0;
};

/// Shapes: x [T, 2 n], gate first, or [T, n] without a gate; returns [T, n].
/// Source: Shazeer, "GLU variants improve transformer", 2020; modeling_gpt_oss.py of transformers
///   5.24 for what is bounded.
at::Tensor activate_mlp(const at::Tensor& x, MlpActivation activation);

/// From the gradient of its result to that of x, without a graph. Shapes: as above.
at::Tensor activate_mlp_backward(const at::Tensor& x, MlpActivation activation,
                                 const at::Tensor& gradient);

}  // namespace temper
