// SPDX-License-Identifier: Apache-2.0
#include "train/loss_trend.h"

#include <cmath>
#include <iterator>
#include <numeric>

#include "core/concat.h"

namespace temper {
namespace {

constexpr double kRise = 0.01;  // Of the lowest loss; less is the noise of small hold-outs.

bool has_risen(const LossTrend& trend) { return trend.last >= (1.0 + kRise) * trend.lowest; }

}  // namespace

std::optional<LossTrend> trend_of(const HoldOutLosses& losses, double min_gain) {
  if (losses.empty()) return std::nullopt;
  const auto& [first_step, first] = *losses.begin();
  LossTrend trend{.first = first, .last = first, .lowest = first, .lowest_step = first_step};
  double to_beat = first;
  for (auto entry = std::next(losses.begin()); entry != losses.end(); ++entry) {
    const auto& [step, loss] = *entry;
    trend.last = loss;
    ++trend.num_since_lowest;
    ++trend.num_without_gain;
    if (loss < to_beat - min_gain) {
      to_beat = loss;
      trend.num_without_gain = 0;
    }
    if (trend.num_since_lowest >= 2 && has_risen(trend)) ++trend.num_risen;
    if (loss >= trend.lowest) continue;
    trend.lowest = loss;
    trend.lowest_step = step;
    trend.num_since_lowest = trend.num_risen = 0;
  }
  return trend;
}

std::string words_on_rise(const std::string& name, const LossTrend& trend, int64_t step,
                          bool is_general) {
  if (trend.num_risen != 1 || !has_risen(trend)) return {};
  return concat("the loss on the hold-out ", name, " rises: ", trend.last, " at step ", step,
                ", its lowest was ", trend.lowest, " at step ", trend.lowest_step,
                is_general ? "; general text among data.train, or a lower rate, holds against it"
                           : "; early_stop ends a run there, checkpoint.keep_best keeps that step");
}

std::string LossWatch::add(int64_t step, double loss) {
  if (!std::isfinite(loss) || has_told_) return {};
  last_.push_back(loss);
  if (last_.size() < kNumSteps) return {};
  if (last_.size() > kNumSteps) last_.pop_front();
  const double mean = std::accumulate(last_.begin(), last_.end(), 0.0) / kNumSteps;
  if (mean < lowest_) {
    lowest_ = mean;
    lowest_step_ = step;
  }
  if (mean <= kMost * lowest_) return {};
  has_told_ = true;
  return concat("the training loss rises: ", mean, " over the ", kNumSteps, " steps to ", step,
                ", above ", kMost, " times the ", lowest_, " of those to step ", lowest_step_,
                "; lower optimizer.learning_rate, or look at the data of these steps");
}

}  // namespace temper
