// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "core/range.h"
#include "model/ops/linear.h"
#include "model/ops/mlp_activation.h"
#include "model/ops/router.h"

namespace temper {

/// One expert's MLP.
struct ExpertWeights {
  SideBySide gate_up;
  LinearWeights down;  ///< Without its bias,
  Weight down_bias;    ///< which is multiplied with the weight; undefined where there is none.
};

/// Where the weights of experts come from and go to while they compute, a group of them at a time.
/// Nothing is called where no function is: all weights are there.
struct ExpertLender {
  /// Makes of the groups that this rank's tokens use those that are lent.
  std::function<void(int64_t layer, std::vector<uint8_t>& used)> agree = {};
  std::function<void(int64_t layer, size_t group)> begin = {}, end = {};
  /// The same for a backward pass, with gradients; false: the group has none.
  std::function<bool(int64_t layer, size_t group)> begin_backward = {};
  std::function<void(int64_t layer, size_t group)> end_backward = {};
};

/// The experts of one layer.
struct ExpertSet {
  std::vector<ExpertWeights> weights;  ///< [expert]
  std::vector<Range> groups;           ///< Whose weights are there at the same time.
  MlpActivation activation;
  int64_t layer = 0;
  std::shared_ptr<const ExpertLender> lender;
};

/// onto + what the experts that each token has chosen make of it, by weight: products of an expert
/// are of its own tokens alone, together. The weight is multiplied into what `down` reads, and what
/// a token's experts make is added up in the order of its choices. The backward pass writes the
/// gradients of what is trained: zeros to experts that no token has chosen.
///
/// `onto` may be undefined. `experts` must outlive the graph. Keeps an expert's products with
/// `gate_up` for the backward pass. Shapes: onto [T, n], x [T, n]; returns [T, n].
at::Tensor mix_experts(const at::Tensor& onto, const Activation& x, const Routing& routing,
                       const ExpertSet& experts);

}  // namespace temper
