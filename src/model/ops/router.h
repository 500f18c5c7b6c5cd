// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "model/ops/linear.h"

namespace temper {

/// What weighs an expert.
enum class RouterScores {
  kSoftmax,          ///< Its part of the softmax of all logits,
  kSoftmaxOfChosen,  ///< of those of the chosen ones alone;
  kSigmoid,          ///< or the sigmoid of its logit.
};

/// How tokens choose their experts by the router's logits, and the weights of the chosen ones.
struct RouterRule {
  int64_t num_chosen = 1;
  RouterScores scores = RouterScores::kSoftmax;
  bool renormalises = false;  ///< Weights are divided by their sum.
  int64_t num_groups = 1;     ///< Of as many experts each, of which these are chosen first:
  int64_t chosen_groups = 1;  ///< those whose two best experts are the best together.
  double scale = 1.0;         ///< Multiplies weights, at last.
  std::vector<float> correction = {};  ///< [experts], added to sigmoids for the choice; or empty.
};

/// Of one layer and one micro-batch: how often each expert was chosen, and the sum over tokens of
/// its probability, the softmax of all logits.
struct ExpertLoad {
  std::vector<int64_t> chosen;  ///< [experts]
  std::vector<double> probabilities;
  int64_t num_tokens = 0;
};

/// The loss that wants experts chosen alike, of all layers of a micro-batch together:
/// E sum_e f_e P_e, where f_e is how often a token chose expert e, and P_e the mean of its
/// probability. The f_e are constants to the backward pass.
///
/// Each layer's forward pass notes its load, one that is computed again the same once more; when
/// all have, the engine says what a unit of the loss is worth, and backward passes ask for it.
/// Source: Fedus et al., "Switch transformers", arXiv:2101.03961, equations 4 to 6, as
///   load_balancing_loss_func of transformers 5.24 has it.
class BalanceLoss {
 public:
  BalanceLoss(int64_t num_layers, int64_t num_experts);

  /// From now on the gradients of logits have those of `worth` times the loss.
  void set_worth(double worth) { worth_ = worth; }
  void note(int64_t layer, ExpertLoad load) {
    loads_[static_cast<size_t>(layer)] = std::move(load);
  }

  const std::vector<ExpertLoad>& loads() const { return loads_; }  ///< [layer]
  double value() const;

  /// Of the loss, times its worth, by one token's probability of each expert; empty if it is worth
  /// nothing. Shape: [experts].
  std::vector<float> slopes() const;

 private:
  struct Sums {
    std::vector<double> chosen, probabilities;  // [experts]
    double num_tokens;
  };
  Sums sums() const;

  std::vector<ExpertLoad> loads_;  // [layer]; of no token where it has no experts.
  int64_t num_experts_;
  double worth_ = 0.0;
};

/// Which experts compute which tokens.
struct Routing {
  at::Tensor weights;           ///< [T, chosen] fp32, with a graph to the logits.
  at::Tensor tokens;            ///< [T * chosen] int64, by expert, then in their order.
  at::Tensor choices;           ///< [T * chosen] int64, the place in `weights`, flat, of each.
  at::Tensor places;            ///< [T, chosen] int64, the place in `tokens` of each choice.
  std::vector<int64_t> begins;  ///< [experts + 1], of each expert's tokens.

  int64_t num_tokens_of(size_t expert) const { return begins[expert + 1] - begins[expert]; }
};

/// Where a layer notes its load.
struct LoadPlace {
  std::shared_ptr<BalanceLoss> loss;
  int64_t layer = 0;
};

/// A router's logits, in fp32 from the first product on where it weighs by sigmoids: with
/// corrections, small differences decide. Shapes: x [T, hidden]; returns [T, experts].
at::Tensor router_logits(const Activation& x, const LinearWeights& router, const RouterRule& rule);

/// Chooses the experts of each token: those with the largest logits, or sigmoids with what corrects
/// them, and the lower number where two are alike. Decided on the host, whatever the device.
/// Shapes: logits [T, experts].
/// Source: for groups and corrections DeepSeek-AI, "DeepSeek-V3 technical report",
///   arXiv:2412.19437, section 2.1.2, as modeling_glm4_moe.py of transformers 5.24 has it.
Routing route(const at::Tensor& logits, const RouterRule& rule, const LoadPlace& place);

}  // namespace temper
