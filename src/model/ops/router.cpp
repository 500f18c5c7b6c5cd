// SPDX-License-Identifier: Apache-2.0
#include "model/ops/router.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

#include "model/ops/backward.h"
#include "model/ops/product.h"

namespace temper {
namespace {

// The places of the largest of `count` numbers, the lower one first where two are alike; what is no
// number comes last.
void find_largest(const float* numbers, int64_t count, std::span<int64_t> places) {
  for (size_t i = 0; i < places.size(); ++i) {
    const auto found = places.first(i);
    int64_t best = -1;
    for (int64_t place = 0; place < count; ++place) {
      if (std::ranges::find(found, place) != found.end()) continue;
      if (best < 0 || numbers[place] > numbers[best]) best = place;
    }
    places[i] = best;
  }
}

// One router's decisions about its tokens.
class Decisions {
 public:
  Decisions(const at::Tensor& logits, const RouterRule& rule)
      : rule_(rule),
        num_tokens_(logits.size(0)),
        num_experts_(logits.size(1)),
        weights_(at::empty({num_tokens_, rule.num_chosen}, at::kFloat)),
        chosen_(static_cast<size_t>(num_tokens_ * rule.num_chosen)) {
    const at::Tensor numbers = logits.to(at::kFloat).cpu().contiguous();
    probabilities_ = has_sigmoids() ? at::sigmoid(numbers) : at::softmax(numbers, 1);
    const at::Tensor ranked = has_sigmoids() ? for_choice() : numbers;
    for (int64_t token = 0; token < num_tokens_; ++token) {
      choose(ranked.const_data_ptr<float>() + token * num_experts_, token);
      weigh(numbers.const_data_ptr<float>() + token * num_experts_, token);
    }
  }

  const at::Tensor& weights() const { return weights_; }

  ExpertLoad load() const {
    const auto size = static_cast<size_t>(num_experts_);
    ExpertLoad load{std::vector<int64_t>(size), std::vector<double>(size), num_tokens_};
    for (const int64_t expert : chosen_) ++load.chosen[static_cast<size_t>(expert)];
    for (int64_t token = 0; token < num_tokens_; ++token) {
      const float* row = probabilities_of(token);
      for (size_t e = 0; e < size; ++e) load.probabilities[e] += static_cast<double>(row[e]);
    }
    return load;
  }

  // Sorts the choices by expert, then by token.
  void group(Routing& routing) const {
    const int64_t num_choices = std::ssize(chosen_);
    routing.begins.assign(static_cast<size_t>(num_experts_ + 1), 0);
    for (const int64_t expert : chosen_) ++routing.begins[static_cast<size_t>(expert + 1)];
    for (size_t e = 1; e < routing.begins.size(); ++e) routing.begins[e] += routing.begins[e - 1];
    std::vector<int64_t> next = routing.begins;
    routing.tokens = at::empty({num_choices}, at::kLong);
    routing.choices = at::empty({num_choices}, at::kLong);
    routing.places = at::empty({num_tokens_, rule_.num_chosen}, at::kLong);
    auto* tokens = routing.tokens.mutable_data_ptr<int64_t>();
    auto* choices = routing.choices.mutable_data_ptr<int64_t>();
    auto* places = routing.places.mutable_data_ptr<int64_t>();
    for (int64_t choice = 0; choice < num_choices; ++choice) {
      const auto expert = static_cast<size_t>(chosen_[static_cast<size_t>(choice)]);
      const int64_t place = next[expert]++;
      tokens[place] = choice / rule_.num_chosen;
      choices[place] = choice;
      places[choice] = place;
    }
  }

  // From the gradient of the weights, and the slopes of a loss by probabilities, to that of the
  // logits. Shapes: given [T, chosen] fp32; returns [T, experts].
  at::Tensor backward(const at::Tensor& given, const std::vector<float>& slopes) const {
    at::Tensor result = at::zeros({num_tokens_, num_experts_}, at::kFloat);
    for (int64_t token = 0; token < num_tokens_; ++token) {
      float* row = result.mutable_data_ptr<float>() + token * num_experts_;
      const float* d = given.const_data_ptr<float>() + token * rule_.num_chosen;
      switch (rule_.scores) {
        case RouterScores::kSoftmaxOfChosen: backward_by_logits(token, d, row); break;
        case RouterScores::kSoftmax: backward_by_probabilities(token, d, row); break;
        case RouterScores::kSigmoid: backward_by_sigmoids(token, d, row); break;
      }
      if (!slopes.empty()) add_softmax_backward(token, slopes.data(), row);
    }
    return result;
  }

 private:
  const int64_t* chosen_of(int64_t token) const {
    return chosen_.data() + token * rule_.num_chosen;
  }
  float* weights_of(int64_t token) const {
    return weights_.mutable_data_ptr<float>() + token * rule_.num_chosen;
  }
  const float* probabilities_of(int64_t token) const {
    return probabilities_.const_data_ptr<float>() + token * num_experts_;
  }

  bool has_sigmoids() const { return rule_.scores == RouterScores::kSigmoid; }

  // What experts are chosen by where they have sigmoids: none of a group that is not chosen.
  at::Tensor for_choice() const {
    at::Tensor ranked = probabilities_.clone();
    if (!rule_.correction.empty()) ranked.add_(at::tensor(rule_.correction));
    if (rule_.chosen_groups == rule_.num_groups) return ranked;
    for (int64_t token = 0; token < num_tokens_; ++token) {
      keep_groups(ranked.mutable_data_ptr<float>() + token * num_experts_);
    }
    return ranked;
  }

  void keep_groups(float* row) const {
    const int64_t size = num_experts_ / rule_.num_groups;
    std::vector<float> sums;  // [group], of its two best.
    for (int64_t group = 0; group < rule_.num_groups; ++group) {
      const float* own = row + group * size;
      int64_t best[2];
      find_largest(own, size, best);
      sums.push_back(own[best[0]] + own[best[1]]);
    }
    std::vector<int64_t> chosen(static_cast<size_t>(rule_.chosen_groups));
    find_largest(sums.data(), rule_.num_groups, chosen);
    for (int64_t group = 0; group < rule_.num_groups; ++group) {
      if (std::ranges::find(chosen, group) != chosen.end()) continue;
      std::fill_n(row + group * size, size, -INFINITY);
    }
  }

  void choose(const float* numbers, int64_t token) {
    const auto num_chosen = static_cast<size_t>(rule_.num_chosen);
    find_largest(numbers, num_experts_,
                 std::span(chosen_).subspan(static_cast<size_t>(token) * num_chosen, num_chosen));
  }

  void weigh(const float* logits, int64_t token) {
    const int64_t* chosen = chosen_of(token);
    float* weights = weights_of(token);
    const bool is_of_chosen = rule_.scores == RouterScores::kSoftmaxOfChosen;
    float sum = has_sigmoids() ? kLeastSum : 0.0F;
    for (int64_t i = 0; i < rule_.num_chosen; ++i) {
      weights[i] = is_of_chosen ? std::exp(logits[chosen[i]] - logits[chosen[0]])
                                : probabilities_of(token)[chosen[i]];
      sum += weights[i];
    }
    const auto scale = static_cast<float>(rule_.scale);
    if (is_of_chosen || rule_.renormalises) {
      for (int64_t i = 0; i < rule_.num_chosen; ++i) weights[i] /= sum;
    }
    for (int64_t i = 0; i < rule_.num_chosen; ++i) weights[i] *= scale;
  }

  float mean_of(const float* d, int64_t token) const {
    float mean = 0.0F;
    for (int64_t i = 0; i < rule_.num_chosen; ++i) mean += d[i] * weights_of(token)[i];
    return mean;
  }

  void backward_by_logits(int64_t token, const float* d, float* row) const {
    const float mean = mean_of(d, token);
    for (int64_t i = 0; i < rule_.num_chosen; ++i) {
      row[chosen_of(token)[i]] = weights_of(token)[i] * (d[i] - mean);
    }
  }

  void backward_by_probabilities(int64_t token, const float* d, float* row) const {
    const float* probabilities = probabilities_of(token);
    const int64_t* chosen = chosen_of(token);
    float sum = 1.0F, mean = 0.0F;
    if (rule_.renormalises) {
      sum = 0.0F;
      for (int64_t i = 0; i < rule_.num_chosen; ++i) sum += probabilities[chosen[i]];
      mean = mean_of(d, token);
    }
    std::vector<float> slopes(static_cast<size_t>(num_experts_), 0.0F);
    for (int64_t i = 0; i < rule_.num_chosen; ++i) {
      slopes[static_cast<size_t>(chosen[i])] = (d[i] - mean) / sum;
    }
    add_softmax_backward(token, slopes.data(), row);
  }

  // Each by itself: s (1 - s) is the slope of a sigmoid.
  void backward_by_sigmoids(int64_t token, const float* d, float* row) const {
    const float* sigmoids = probabilities_of(token);
    const int64_t* chosen = chosen_of(token);
    const auto scale = static_cast<float>(rule_.scale);
    float sum = 1.0F, mean = 0.0F;
    if (rule_.renormalises) {
      sum = kLeastSum;
      for (int64_t i = 0; i < rule_.num_chosen; ++i) sum += sigmoids[chosen[i]];
      mean = mean_of(d, token);
    }
    for (int64_t i = 0; i < rule_.num_chosen; ++i) {
      const float s = sigmoids[chosen[i]];
      row[chosen[i]] = (scale * d[i] - mean) / sum * s * (1.0F - s);
    }
  }

  void add_softmax_backward(int64_t token, const float* slopes, float* row) const {
    const float* probabilities = probabilities_of(token);
    float mean = 0.0F;
    for (int64_t e = 0; e < num_experts_; ++e) mean += probabilities[e] * slopes[e];
    for (int64_t e = 0; e < num_experts_; ++e) row[e] += probabilities[e] * (slopes[e] - mean);
  }

  static constexpr float kLeastSum = 1e-20F;  // As in the source.

  RouterRule rule_;
  int64_t num_tokens_, num_experts_;
  at::Tensor probabilities_;     // [T, experts] fp32; or sigmoids.
  at::Tensor weights_;           // [T, chosen] fp32
  std::vector<int64_t> chosen_;  // [T, chosen]
};

}  // namespace

BalanceLoss::BalanceLoss(int64_t num_layers, int64_t num_experts)
    : loads_(static_cast<size_t>(num_layers)), num_experts_(num_experts) {}

BalanceLoss::Sums BalanceLoss::sums() const {
  const auto size = static_cast<size_t>(num_experts_);
  Sums all{std::vector<double>(size), std::vector<double>(size), 0.0};
  for (const ExpertLoad& load : loads_) {
    if (load.num_tokens == 0) continue;
    for (size_t e = 0; e < size; ++e) {
      all.chosen[e] += static_cast<double>(load.chosen[e]);
      all.probabilities[e] += load.probabilities[e];
    }
    all.num_tokens += static_cast<double>(load.num_tokens);
  }
  return all;
}

double BalanceLoss::value() const {
  const Sums all = sums();
  double sum = 0.0;
  for (size_t e = 0; e < all.chosen.size(); ++e) sum += all.chosen[e] * all.probabilities[e];
  return static_cast<double>(num_experts_) * sum / (all.num_tokens * all.num_tokens);
}

std::vector<float> BalanceLoss::slopes() const {
  if (worth_ == 0.0) return {};
  const Sums all = sums();
  std::vector<float> slopes;
  for (const double chosen : all.chosen) {
    slopes.push_back(static_cast<float>(worth_ * static_cast<double>(num_experts_) * chosen /
                                        (all.num_tokens * all.num_tokens)));
  }
  return slopes;
}

at::Tensor router_logits(const Activation& x, const LinearWeights& router, const RouterRule& rule) {
  if (rule.scores != RouterScores::kSigmoid) return linear(x, router);
  const auto wide = [](const at::Tensor& numbers) { return numbers.to(at::kFloat); };
  at::Tensor logits =
      without_graph([&] { return product(wide(x.value), wide(router.matrix.value()).t()); });
  return with_backward(std::move(logits), {x.value},
                       [x = x.again, router, wide, dtype = x.value.scalar_type()](
                           const at::Tensor& gradient) -> std::vector<at::Tensor> {
                         if (at::Tensor matrix = router.matrix.gradient(); matrix.defined()) {
                           matrix.copy_(product(gradient.t(), wide(x())));
                         }
                         return {product(gradient, wide(router.matrix.value())).to(dtype)};
                       });
}

Routing route(const at::Tensor& logits, const RouterRule& rule, const LoadPlace& place) {
  const auto decisions =
      without_graph([&] { return std::make_shared<const Decisions>(logits.detach(), rule); });
  place.loss->note(place.layer, decisions->load());
  Routing routing;
  decisions->group(routing);
  for (at::Tensor* numbers : {&routing.tokens, &routing.choices, &routing.places}) {
    *numbers = numbers->to(logits.device());
  }
  routing.weights =
      with_backward(decisions->weights().detach().clone().to(logits.device()), {logits},
                    [decisions, loss = place.loss, options = logits.options()](
                        const at::Tensor& gradient) -> std::vector<at::Tensor> {
                      const at::Tensor given = gradient.to(at::kFloat).cpu().contiguous();
                      return {decisions->backward(given, loss->slopes()).to(options)};
                    });
  return routing;
}

}  // namespace temper
