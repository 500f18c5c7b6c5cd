// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "model/ops/linear.h"
#include "model/ops/mlp_activation.h"
#include "model/ops/router.h"

namespace temper {

/// One expert's MLP.
struct ExpertWeights {
  SideBySide gate_up;
  LinearWeights down;
};

/// onto + what the experts that each token has chosen make of it, by weight: products of an expert
/// are of its own tokens alone, together. The weight is multiplied into what `down` reads, and what
/// a token's experts make is added up in the order of its choices. The backward pass writes the
/// gradients of what is trained: zeros to experts that no token has chosen.
///
/// `onto` may be undefined. `experts` must outlive the graph. Keeps an expert's products with
/// `gate_up` for the backward pass. Shapes: onto [T, n], x [T, n]; returns [T, n].
at::Tensor mix_experts(const at::Tensor& onto, const Activation& x, const Routing& routing,
                       const std::vector<ExpertWeights>& experts, MlpActivation activation);

}  // namespace temper
