// SPDX-License-Identifier: Apache-2.0
#include "train/expert_use.h"

#include <cmath>

#include "comm/agree.h"
#include "core/concat.h"

namespace temper {

ExpertCounter::ExpertCounter(const ModelConfig& config)
    : num_experts_(config.experts.count),
      layers_(config.experts.layers),
      choices_(layers_.size() * static_cast<size_t>(num_experts_)) {}

void ExpertCounter::add(const Decoder& decoder) {
  if (num_experts_ > 0) decoder.add_expert_choices(choices_);
}

ExpertUse ExpertCounter::combine(Communicator& ranks) {
  ExpertUse use;
  if (num_experts_ == 0) return use;
  reduce_words(ranks, choices_, ReduceOp::kSum);
  const auto count = static_cast<size_t>(num_experts_);
  use.shares.assign(count, 0.0);
  double num_choices = 0.0, num_idle = 0.0, num_all = 0.0;
  for (size_t i = 0; i < choices_.size(); ++i) {
    if (!layers_[i / count]) continue;
    use.shares[i % count] += static_cast<double>(choices_[i]);
    num_choices += static_cast<double>(choices_[i]);
    num_idle += choices_[i] == 0 ? 1.0 : 0.0;
    num_all += 1.0;
  }
  for (double& share : use.shares) share /= num_choices;
  use.idle_share = num_idle / num_all;
  use.choices_per_expert = num_choices / num_all;
  return use;
}

std::string ExpertWatch::add(int64_t step, const ExpertUse& use) {
  const bool may_be_chance = use.choices_per_expert < kFewChoices;
  if (has_told_ || use.shares.empty() || may_be_chance || use.idle_share <= kMostIdle) return {};
  has_told_ = true;
  return concat("at step ", step, " no token has chosen ", std::lround(100.0 * use.idle_share),
                "% of the experts, though each could have had ",
                std::lround(use.choices_per_expert),
                " of them: the routers collapse; lower the rate, freeze the routers "
                "(train.freeze), or set output_router_logits in the model's config.json, which "
                "adds the loss for an even choice");
}

}  // namespace temper
