// SPDX-License-Identifier: Apache-2.0
#include "optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <stdexcept>

#include "core/concat.h"

namespace temper {
namespace {

using Shape = ScheduleOptions::Shape;

int64_t share_of(int64_t num_steps, double ratio) {
  return static_cast<int64_t>(std::ceil(static_cast<double>(num_steps) * ratio));
}

bool is_share(double number) { return number >= 0.0 && number <= 1.0; }

void require_valid(const ScheduleOptions& options, int64_t num_steps) {
  if (num_steps < 1 || options.warmup_steps < 0) {
    throw std::invalid_argument(
        concat("a schedule of ", num_steps, " steps with a warm-up of ", options.warmup_steps));
  }
  if (!is_share(options.warmup_ratio) || !is_share(options.floor_ratio) ||
      !is_share(options.decay_ratio)) {
    throw std::invalid_argument("a schedule's ratios lie between 0 and 1");
  }
}

}  // namespace

Schedule::Schedule(const ScheduleOptions& options, int64_t num_steps, int64_t first_step)
    : options_(options), first_step_(first_step), num_steps_(num_steps - first_step) {
  require_valid(options, num_steps_);
  warmup_steps_ =
      options.warmup_steps > 0 ? options.warmup_steps : share_of(num_steps_, options.warmup_ratio);
  first_decay_step_ = options.shape == Shape::kWsd
                          ? num_steps_ - share_of(num_steps_, options.decay_ratio)
                          : warmup_steps_;
  if (warmup_steps_ > std::min(first_decay_step_, num_steps_)) {
    throw std::invalid_argument(
        concat("a warm-up of ", warmup_steps_, " steps does not fit before ",
               std::min(first_decay_step_, num_steps_), " of ", num_steps_));
  }
}

double Schedule::multiplier(int64_t step) const {
  step -= first_step_;
  if (step < warmup_steps_) {
    return warmup(static_cast<double>(step + 1) / static_cast<double>(warmup_steps_));
  }
  if (options_.shape == Shape::kConstant) return 1.0;
  if (step >= num_steps_) return decay(1.0);
  if (step <= first_decay_step_) return 1.0;
  return decay(static_cast<double>(step - first_decay_step_) /
               static_cast<double>(num_steps_ - first_decay_step_));
}

double Schedule::warmup(double progress) const {
  if (options_.shape != Shape::kWsd) return progress;
  return progress * (1.0 - options_.floor_ratio) + options_.floor_ratio;
}

double Schedule::decay(double progress) const {
  const double falling = options_.shape == Shape::kLinear
                             ? 1.0 - progress
                             : 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
  return std::max(0.0, falling * (1.0 - options_.floor_ratio) + options_.floor_ratio);
}

}  // namespace temper
