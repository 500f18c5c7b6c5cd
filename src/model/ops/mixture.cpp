// SPDX-License-Identifier: Apache-2.0
#include "model/ops/mixture.h"

#include <ATen/ATen.h>

#include <functional>
#include <memory>
#include <utility>

#include "model/ops/backward.h"
#include "model/ops/column_sum.h"
#include "model/ops/expert_rows.h"
#include "model/ops/product.h"

namespace temper {
namespace {

// What one expert keeps for its backward pass.
struct ExpertPass {
  at::Tensor gate_up;                // [own tokens, 2 width], or [.., width] without a gate.
  std::vector<LinearPass> products;  // Of `gate_up`,
  LinearPass down;                   // and of what lies behind it.
};

// Zeros for what no token has chosen.
void clear_gradient(const Weight& weight) {
  if (!weight.is_defined()) return;
  if (at::Tensor gradient = weight.gradient(); gradient.defined()) gradient.zero_();
}

void clear_gradients(const LinearWeights& weights) {
  clear_gradient(weights.matrix);
  clear_gradient(weights.bias);
  if (!weights.low_rank.is_defined()) return;
  clear_gradient(weights.low_rank.down);
  for (const LowRankPart& part : weights.low_rank.parts) {
    clear_gradient(part.up);
    clear_gradient(part.magnitude);
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
    return linear_forward(weighed_bias(factors),
                          weigh_rows(activate_mlp(pass.gate_up, activation_), factors),
                          weights_.down, pass.down);
  }

  // Shapes: gradient [n, hidden]; writes the gradient of the factors, returns that of x.
  at::Tensor backward(const at::Tensor& gradient, const at::Tensor& x, const at::Tensor& factors,
                      const ExpertPass& pass, at::Tensor factor_gradients) const {
    const at::Tensor inner = activate_mlp(pass.gate_up, activation_);
    const at::Tensor of_inner = linear_backward(
        gradient, [&] { return weigh_rows(inner, factors); }, weights_.down, pass.down);
    weigh_rows_backward(of_inner, inner, factors, factor_gradients);
    weighed_bias_backward(gradient, factors, std::move(factor_gradients));
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
    clear_gradient(weights_.down_bias);
  }

 private:
  // What `down` adds to each row: its bias, by weight. Undefined where it has none.
  at::Tensor weighed_bias(const at::Tensor& factors) const {
    if (!weights_.down_bias.is_defined()) return {};
    const at::Tensor bias = weights_.down_bias.value();
    return weigh_rows(bias.expand({factors.size(0), bias.size(0)}).contiguous(), factors);
  }

  void weighed_bias_backward(const at::Tensor& gradient, const at::Tensor& factors,
                             at::Tensor factor_gradients) const {
    if (!weights_.down_bias.is_defined()) return;
    const at::Tensor wide = gradient.to(at::kFloat);
    factor_gradients.add_(
        product(wide, weights_.down_bias.value().to(at::kFloat).unsqueeze(1)).squeeze(1));
    if (at::Tensor own = weights_.down_bias.gradient(); own.defined()) {
      column_sum_out(own, weigh_rows(wide, factors));
    }
  }

  const ExpertWeights& weights_;
  MlpActivation activation_;
};

// The experts of one layer and what they keep of one micro-batch.
class Mixture {
 public:
  Mixture(Routing routing, const ExpertSet& experts)
      : routing_(std::move(routing)),
        factors_(routing_.weights.detach().flatten().index_select(0, routing_.choices)),
        experts_(experts),
        passes_(experts.weights.size()) {
    routing_.weights.reset();  // Its graph is not this one's to keep.
  }

  at::Tensor forward(const at::Tensor& onto, const at::Tensor& x) {
    at::Tensor made = at::empty({routing_.tokens.size(0), x.size(1)}, x.options());
    const ExpertLender& lender = *experts_.lender;
    std::vector<uint8_t> used = used_groups();
    if (lender.agree) lender.agree(experts_.layer, used);
    for (size_t group = 0; group < used.size(); ++group) {
      if (used[group] == 0) continue;
      if (lender.begin) lender.begin(experts_.layer, group);
      for_each_in(group, [&](size_t expert) { compute(x, expert, made); });
      if (lender.end) lender.end(experts_.layer, group);
    }
    return sum_rows(onto, made, routing_.places);
  }

  // Returns the gradients of x and of the weights.
  std::vector<at::Tensor> backward(const at::Tensor& gradient, const at::Tensor& x) const {
    at::Tensor of_rows = at::empty({routing_.tokens.size(0), x.size(1)}, x.options());
    at::Tensor of_factors = at::empty_like(factors_);
    const ExpertLender& lender = *experts_.lender;
    for (size_t group = 0; group < experts_.groups.size(); ++group) {
      const bool is_lent = !lender.begin_backward || lender.begin_backward(experts_.layer, group);
      for_each_in(group, [&](size_t expert) {
        compute_backward(gradient, x, expert, of_rows, of_factors);
      });
      if (is_lent && lender.end_backward) lender.end_backward(experts_.layer, group);
    }
    const at::Tensor of_weights = of_factors.index_select(0, routing_.places.flatten());
    return {sum_rows({}, of_rows, routing_.places), of_weights.view(routing_.places.sizes())};
  }

 private:
  ExpertMlp mlp(size_t expert) const { return {experts_.weights[expert], experts_.activation}; }

  template <typename Function>
  void for_each_in(size_t group, Function function) const {
    const Range experts = experts_.groups[group];
    for (int64_t e = experts.begin; e < experts.end; ++e) function(static_cast<size_t>(e));
  }

  std::vector<uint8_t> used_groups() const {
    std::vector<uint8_t> used(experts_.groups.size(), 0);
    for (size_t group = 0; group < used.size(); ++group) {
      for_each_in(group, [&](size_t expert) {
        if (routing_.num_tokens_of(expert) > 0) used[group] = 1;
      });
    }
    return used;
  }

  void compute(const at::Tensor& x, size_t expert, const at::Tensor& made) {
    if (routing_.num_tokens_of(expert) == 0) return;
    own(made, expert)
        .copy_(mlp(expert).forward(x.index_select(0, own(routing_.tokens, expert)),
                                   own(factors_, expert), passes_[expert]));
  }

  void compute_backward(const at::Tensor& gradient, const at::Tensor& x, size_t expert,
                        const at::Tensor& of_rows, const at::Tensor& of_factors) const {
    if (routing_.num_tokens_of(expert) == 0) return mlp(expert).clear();
    const at::Tensor tokens = own(routing_.tokens, expert);
    own(of_rows, expert)
        .copy_(mlp(expert).backward(gradient.index_select(0, tokens), x.index_select(0, tokens),
                                    own(factors_, expert), passes_[expert],
                                    own(of_factors, expert)));
  }

  // The part of rows by expert that is one's own.
  at::Tensor own(const at::Tensor& rows, size_t expert) const {
    return rows.narrow(0, routing_.begins[expert], routing_.num_tokens_of(expert));
  }

  Routing routing_;
  at::Tensor factors_;  // [T * chosen] fp32, by expert.
  const ExpertSet& experts_;
  std::vector<ExpertPass> passes_;  // [expert]
};

}  // namespace

at::Tensor mix_experts(const at::Tensor& onto, const Activation& x, const Routing& routing,
                       const ExpertSet& experts) {
  const auto mixture = std::make_shared<Mixture>(routing, experts);
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
