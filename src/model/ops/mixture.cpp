// SPDX-License-Identifier: Apache-2.0
#include "model/ops/mixture.h"

#include <ATen/ATen.h>

#include <functional>
#include <memory>
#include <utility>

#include "model/ops/backward.h"
#include "model/ops/expert_rows.h"

namespace temper {
namespace {

// What one expert keeps for its backward pass.
struct ExpertPass {
  at::Tensor gate_up;                // [own tokens, 2 width], or [.., width] without a gate.
  std::vector<LinearPass> products;  // Of `gate_up`,
  LinearPass down;                   // and of what lies behind it.
};

// Zeros for what no token has chosen.
void clear_gradients(const LinearWeights& weights) {
  const auto clear = [](const Weight& weight) {
    if (!weight.is_defined()) return;
    if (at::Tensor gradient = weight.gradient(); gradient.defined()) gradient.zero_();
  };
  clear(weights.matrix);
  clear(weights.bias);
  if (!weights.low_rank.is_defined()) return;
  clear(weights.low_rank.down);
  for (const LowRankPart& part : weights.low_rank.parts) {
    clear(part.up);
    clear(part.magnitude);
  }
}

// One expert's MLP on its own tokens.
class ExpertMlp {
 public:
  ExpertMlp(const ExpertWeights& weights, MlpActivation activation)
      : weights_(weights), activation_(activation) {}

  // Shapes: x [n, hidden], factors [n] fp32.
  at::Tensor forward(const at::Tensor& x, const at::Tensor& factors, ExpertPass& pass) const {
    std::vector<at::Tensor> outputs;
    for (const LinearWeights& one : weights_.gate_up) {
      outputs.push_back(linear_forward({}, x, one, pass.products.emplace_back()));
    }
    pass.gate_up = outputs.size() == 1 ? outputs.front() : at::cat(outputs, 1);
    return linear_forward({}, weigh_rows(activate_mlp(pass.gate_up, activation_), factors),
                          weights_.down, pass.down);
  }

  // Shapes: gradient [n, hidden]; writes the gradient of the factors, returns that of x.
  at::Tensor backward(const at::Tensor& gradient, const at::Tensor& x, const at::Tensor& factors,
                      const ExpertPass& pass, at::Tensor factor_gradients) const {
    const at::Tensor inner = activate_mlp(pass.gate_up, activation_);
    const at::Tensor of_inner = linear_backward(
        gradient, [&] { return weigh_rows(inner, factors); }, weights_.down, pass.down);
    weigh_rows_backward(of_inner, inner, factors, std::move(factor_gradients));
    const at::Tensor of_gate_up = activate_mlp_backward(pass.gate_up, activation_, of_inner);
    at::Tensor of_x;
    int64_t first = 0;
    for (size_t i = 0; i < weights_.gate_up.size(); ++i) {
      const LinearWeights& one = weights_.gate_up[i];
      const int64_t width = one.matrix.shape()[0];
      const at::Tensor own = weights_.gate_up.size() == 1
                                 ? of_gate_up
                                 : of_gate_up.narrow(1, first, width).contiguous();
      const at::Tensor part = linear_backward(
          own, [&] { return x; }, one, pass.products[i]);
      of_x = of_x.defined() ? of_x + part : part;
      first += width;
    }
    return of_x;
  }

  void clear() const {
    for (const LinearWeights& one : weights_.gate_up) clear_gradients(one);
    clear_gradients(weights_.down);
  }

 private:
  const ExpertWeights& weights_;
  MlpActivation activation_;
};

// The experts of one layer and what they keep of one micro-batch.
class Mixture {
 public:
  Mixture(Routing routing, const std::vector<ExpertWeights>& experts, MlpActivation activation)
      : routing_(std::move(routing)),
        factors_(routing_.weights.detach().flatten().index_select(0, routing_.choices)),
        experts_(experts),
        activation_(activation),
        passes_(experts.size()) {
    routing_.weights.reset();  // Its graph is not this one's to keep.
  }

  at::Tensor forward(const at::Tensor& onto, const at::Tensor& x) {
    at::Tensor made = at::empty({routing_.tokens.size(0), x.size(1)}, x.options());
    for (size_t expert = 0; expert < experts_.size(); ++expert) {
      if (routing_.num_tokens_of(expert) == 0) continue;
      own(made, expert)
          .copy_(mlp(expert).forward(x.index_select(0, own(routing_.tokens, expert)),
                                     own(factors_, expert), passes_[expert]));
    }
    return sum_rows(onto, made, routing_.places);
  }

  // Returns the gradients of x and of the weights.
  std::vector<at::Tensor> backward(const at::Tensor& gradient, const at::Tensor& x) const {
    at::Tensor of_rows = at::empty({routing_.tokens.size(0), x.size(1)}, x.options());
    at::Tensor of_factors = at::empty_like(factors_);
    for (size_t expert = 0; expert < experts_.size(); ++expert) {
      if (routing_.num_tokens_of(expert) == 0) {
        mlp(expert).clear();
        continue;
      }
      const at::Tensor tokens = own(routing_.tokens, expert);
      own(of_rows, expert)
          .copy_(mlp(expert).backward(gradient.index_select(0, tokens), x.index_select(0, tokens),
                                      own(factors_, expert), passes_[expert],
                                      own(of_factors, expert)));
    }
    const at::Tensor of_weights = of_factors.index_select(0, routing_.places.flatten());
    return {sum_rows({}, of_rows, routing_.places), of_weights.view(routing_.places.sizes())};
  }

 private:
  ExpertMlp mlp(size_t expert) const { return {experts_[expert], activation_}; }

  // The part of rows by expert that is one's own.
  at::Tensor own(const at::Tensor& rows, size_t expert) const {
    return rows.narrow(0, routing_.begins[expert], routing_.num_tokens_of(expert));
  }

  Routing routing_;
  at::Tensor factors_;  // [T * chosen] fp32, by expert.
  const std::vector<ExpertWeights>& experts_;
  MlpActivation activation_;
  std::vector<ExpertPass> passes_;  // [expert]
};

}  // namespace

at::Tensor mix_experts(const at::Tensor& onto, const Activation& x, const Routing& routing,
                       const std::vector<ExpertWeights>& experts, MlpActivation activation) {
  const auto mixture = std::make_shared<Mixture>(routing, experts, activation);
  at::Tensor y = without_graph([&] { return mixture->forward(onto, x.value); });
  std::vector<at::Tensor> inputs{x.value, routing.weights};
  if (onto.defined()) inputs.push_back(onto);
  return with_backward(std::move(y), inputs,
                       [x = x.again, mixture, has_onto = onto.defined()](
                           const at::Tensor& gradient) -> std::vector<at::Tensor> {
                         std::vector<at::Tensor> all =
                             mixture->backward(gradient.contiguous(), x());
                         if (has_onto) all.push_back(gradient);
                         return all;
                       });
}

}  // namespace temper
