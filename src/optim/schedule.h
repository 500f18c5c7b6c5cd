// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace temper {

struct ScheduleOptions {
  enum class Shape { kConstant, kLinear, kCosine, kWsd };
  Shape shape = Shape::kCosine;
  int64_t warmup_steps = 0;
  double warmup_ratio = 0.0;  ///< Of all steps, rounded up; used where warmup_steps is 0.
  double floor_ratio = 0.0;   ///< After warm-up the rate never falls below this share of the peak.
  double decay_ratio = 0.1;   ///< WSD: the last share of all steps, rounded up, in which it falls.
};

/// The learning rate's share of its peak at each step.
///
/// A warm-up of n steps is linear from 1/n to 1 (WSD: from the floor), so that its first step
/// already learns and its last has the peak. After it: constant; linear or cosine down to the
/// floor at the last step; or WSD, warm-up, stable, decay: constant, then a cosine down to the
/// floor. Past the last step the rate stays where it is.
/// Source: transformers.optimization, get_{constant,linear,cosine,cosine_with_min_lr}_schedule_
///   with_warmup and get_wsd_schedule with its defaults, but for the warm-up, which is one step
///   ahead of theirs, as in torchtitan's linear_warmup_stable_decay: theirs spends the first step
///   at rate zero. Linear with a floor is ours.
class Schedule {
 public:
  /// From `first_step` to `num_steps`, which counts those before it, too.
  /// Throws: std::invalid_argument if a number is out of its range, or if warm-up and decay do not
  ///   fit into the steps between them.
  Schedule(const ScheduleOptions& options, int64_t num_steps, int64_t first_step = 0);

  int64_t warmup_steps() const { return warmup_steps_; }

  /// `step` counts the optimizer steps already done: 0 for the first.
  double multiplier(int64_t step) const;

 private:
  double warmup(double progress) const;
  double decay(double progress) const;

  ScheduleOptions options_;
  int64_t first_step_;
  int64_t num_steps_;  // From the first one on.
  int64_t warmup_steps_;
  int64_t first_decay_step_;  // The last step at the peak.
};

}  // namespace temper
