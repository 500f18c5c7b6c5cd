// SPDX-License-Identifier: Apache-2.0
#include "train/time_limit.h"

#include <algorithm>

namespace temper {
namespace {

constexpr double kMargin = 1.5;         // Of the longest so far; arbitrary, as is the next.
constexpr double kShortestPause = 2.0;  // To end the processes, in seconds.

}  // namespace

void TimeLimit::add_step(double seconds) { step_seconds_ = std::max(step_seconds_, seconds); }

void TimeLimit::add_save(double seconds) {
  if (seconds == 0.0) return;
  save_seconds_ = has_saved_ ? std::max(save_seconds_, seconds) : seconds;
  has_saved_ = true;
}

bool TimeLimit::is_up() const {
  return has_end_ && seconds_left() < kMargin * (step_seconds_ + save_seconds_) + kShortestPause;
}

}  // namespace temper
