// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/clock.h"

namespace temper {

/// Knows when this job's time ends, and from what steps and saves have taken whether there is time
/// for another one. Local: ranks must agree on what they make of it.
class TimeLimit {
 public:
  /// Without an end.
  TimeLimit() = default;

  /// `seconds_left` from now on; `save_seconds` is what a save is expected to take at first. No
  /// more than a third of the time is reserved for an expectation: a job that was told too much
  /// would end before its first step, and so would all that follow it, since none of them finds
  /// out.
  TimeLimit(double seconds_left, double save_seconds);

  /// What a job needs to hold one step and one save, with a margin.
  static double seconds_for(double step_seconds, double save_seconds);

  /// A step, with what else came before the next one. An evaluation is no part of it: that can be
  /// cut off.
  void add_step(double seconds);

  /// A save, from its begin to its publication. The first one replaces the expectation;
  /// 0 is none.
  void add_save(double seconds);

  /// Whether the job must stop before another step, to be saved by the end of its time.
  bool is_up() const;

  /// Whether there is time for a save, if it begins now.
  bool allows_save() const { return !has_end_ || seconds_left() > save_seconds_; }

  double seconds_left() const { return seconds_left_ - watch_.seconds(); }

  /// The longest save of this job; before the first what is reserved for it.
  double save_seconds() const { return save_seconds_; }

  /// The longest step of this job; 0 before the first.
  double step_seconds() const { return step_seconds_; }

 private:
  double seconds_left_ = 0.0;  // When it was made.
  double save_seconds_ = 0.0;  // The longest.
  double step_seconds_ = 0.0;  // The longest.
  bool has_end_ = false;
  bool has_saved_ = false;
  Stopwatch watch_;
};

}  // namespace temper
