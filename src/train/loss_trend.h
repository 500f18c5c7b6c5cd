// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <deque>
#include <limits>
#include <map>
#include <optional>
#include <string>

namespace temper {

/// The losses on one hold-out, by step; infinite where one was no number.
using HoldOutLosses = std::map<int64_t, double>;

/// What they tell.
struct LossTrend {
  double first = 0.0;
  double last = 0.0;
  double lowest = 0.0;
  int64_t lowest_step = 0;       ///< The first of equals.
  int64_t num_since_lowest = 0;  ///< Evaluations after it.
  int64_t num_without_gain = 0;  ///< Evaluations in a row that gained no more than `min_gain`.
  int64_t num_risen = 0;         ///< From the second after the lowest on, those well above it.
};

/// `min_gain` is by how much a loss must be below the lowest before it, to count as a gain.
/// Nothing if there are no losses.
std::optional<LossTrend> trend_of(const HoldOutLosses& losses, double min_gain = 0.0);

/// Words for a loss that has begun to rise: at the first evaluation that is above the lowest one by
/// a hundredth of it, from the second after it on; else none.
std::string words_on_rise(const std::string& name, const LossTrend& trend, int64_t step,
                          bool is_general);

/// Watches the losses of steps, which are noisier than those of a hold-out, for what rates that are
/// too high do to them.
class LossWatch {
 public:
  /// Words, once, for a mean over kNumSteps steps that has risen above that; else none. Losses that
  /// are not finite are passed over: such steps are counted elsewhere.
  std::string add(int64_t step, double loss);

 private:
  static constexpr size_t kNumSteps = 20;  // Arbitrary: a mean of fewer is noise.

  static constexpr double kMost = 1.2;  // Times the lowest mean; arbitrary.

  std::deque<double> last_;
  double lowest_ = std::numeric_limits<double>::infinity();
  int64_t lowest_step_ = 0;
  bool has_told_ = false;
};

}  // namespace temper
