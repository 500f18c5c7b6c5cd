// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <vector>

#include "config/run_config.h"
#include "core/concat.h"

namespace temper {

namespace {

using Problems = std::vector<Problem>;

// The highest rate that a parameter may have.
double highest_rate(const RunConfig& config) {
  const double rate = config.optimizer.learning_rate;
  double highest = rate;
  for (const ParameterGroup& group : config.groups) {
    highest = std::max(highest, rate * group.rate_ratio(rate));
  }
  return highest;
}

void check_pull(const RunConfig& config, Problems& problems) {
  const double strength = config.train.l2_sp, rate = highest_rate(config);
  if (strength == 0.0) return;
  if (config.method.has_adapter()) {
    problems.push_back({concat("train.l2_sp has no effect: method is ", name_of(config.method.kind),
                               ", whose base does not move, and whose adapter begins at nothing"),
                        "leave it out; optimizer.weight_decay is what pulls an adapter there",
                        {"method", "train.l2_sp"}});
  } else if (strength * rate > 1.0) {
    problems.push_back({concat("train.l2_sp of ", strength, " times a learning rate of ", rate,
                               " is more than 1: a step would pull weights beyond their start"),
                        concat("set train.l2_sp to at most ", 1.0 / rate),
                        {"train.l2_sp", "optimizer.learning_rate", "optimizer.groups"}});
  }
}

// Why the model without the adapter is not the one that the run began with; empty: it is.
std::string reason_against_base(const MethodOptions& method) {
  if (!method.is_lora()) return {};
  if (method.lora.init == LoraOptions::Init::kPrincipal) {
    return "lora.init is pissa, which takes what the adapter begins with off the base";
  }
  if (method.lora.saved.tokens.empty()) return {};
  return "lora.trainable_tokens puts rows of the adapter in the place of the base's";
}

void check_kl(const RunConfig& config, Problems& problems) {
  const KlOptions& kl = config.train.kl;
  if (!kl.is_on()) {
    if (kl.temperature == KlOptions().temperature) return;
    problems.push_back({"train.kl.temperature has no effect: train.kl.weight is 0",
                        "set a weight, or leave it out",
                        {"train.kl.temperature", "train.kl.weight"}});
    return;
  }
  const std::string reason = reason_against_base(config.method);
  if (reason.empty()) return;
  problems.push_back({concat("train.kl needs the model without the adapter, but ", reason),
                      "leave one of them out",
                      {"train.kl.weight", "lora.init", "lora.trainable_tokens"}});
}

}  // namespace

Problems validate_forgetting(const RunConfig& config) {
  Problems problems;
  check_pull(config, problems);
  check_kl(config, problems);
  const MethodOptions& method = config.method;
  if (config.train.layer_decay != 1.0 && method.has_adapter()) {
    problems.push_back({concat("train.layer_decay has no effect: method is ", name_of(method.kind),
                               ", which trains its own tensors alone"),
                        "set method to full, or leave it out",
                        {"method", "train.layer_decay"}});
  }
  const bool is_projected =
      method.kind == MethodOptions::Kind::kPrefix && method.prefix.projection > 0;
  if (config.train.ema_decay > 0.0 && is_projected) {
    problems.push_back(
        {"train.ema is set, but prefix.projection computes the prefix from what is "
         "trained: the mean of the one is not made of the mean of the other",
         "set prefix.projection to 0, or leave train.ema out",
         {"train.ema.decay", "prefix.projection"}});
  }
  return problems;
}

}  // namespace temper
