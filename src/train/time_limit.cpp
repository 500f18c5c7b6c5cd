// SPDX-License-Identifier: Apache-2.0
#include "train/time_limit.h"

#include <algorithm>

namespace temper {
namespace {

constexpr double kMargin = 1.5;         // Of the longest so far; arbitrary, as is the next.
constexpr double kShortestPause = 2.0;  // To end the processes, in seconds.
constexpr double kMostExpected =
    1.0 / 3.0;  // Of the job's time; with the margin that is half of it.

}  // namespace

TimeLimit::TimeLimit(double seconds_left, double save_seconds)
    : seconds_left_(seconds_left),
      save_seconds_(std::min(save_seconds, kMostExpected * std::max(0.0, seconds_left))),
      has_end_(true) {}

double TimeLimit::seconds_for(double step_seconds, double save_seconds) {
  return kMargin * (step_seconds + save_seconds) + kShortestPause;
}

void TimeLimit::add_step(double seconds) { step_seconds_ = std::max(step_seconds_, seconds); }

void TimeLimit::add_save(double seconds) {
  if (seconds == 0.0) return;
  save_seconds_ = has_saved_ ? std::max(save_seconds_, seconds) : seconds;
  has_saved_ = true;
}

bool TimeLimit::is_up() const {
  return has_end_ && seconds_left() < seconds_for(step_seconds_, save_seconds_);
}

}  // namespace temper
