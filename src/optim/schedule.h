// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace temper {

struct ScheduleOptions {
  enum class Shape { kConstant, kLinear, kCosine, kWsd };
  Shape shape = Shape::kCosine;
  int64_t warmup_steps = 0;
  double warmup_ratio = 0.0;   ///< Of all steps, rounded up; used where warmup_steps is 0.
  double floor_ratio = 0.0;    ///< The rate never falls below this share of the peak.
  double decay_ratio = 0.1;    ///< WSD: the last share of all steps, in which the rate falls.
};

/// The learning rate's share of its peak at each step, as transformers computes it: the first step
/// of a warm-up has rate zero.
///
/// Source: transformers.optimization, get_{constant,linear,cosine_with_min_lr,wsd}_schedule.
class Schedule {
 public:
  /// Throws: std::invalid_argument if the warm-up and decay do not fit into `num_steps`.
  Schedule(const ScheduleOptions& options, int64_t num_steps);

  int64_t warmup_steps() const { return warmup_steps_; }

  /// `step` counts the optimizer steps already done: 0 for the first.
  double multiplier(int64_t step) const;

 private:
  double decay(double progress) const;

  ScheduleOptions options_;
  int64_t num_steps_;
  int64_t warmup_steps_;
};

}  // namespace temper
