// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "core/clock.h"

namespace temper {

/// How often a progress bar is shown, in seconds.
struct ProgressPace {
  double on_terminal = 0.2;
  double in_file = 10.0;
};

/// How far long work is, told by rank 0 alone: on a terminal one line that redraws itself
/// and goes at the end, in a file a whole line now and then, of work that takes long. With rate and
/// time left. One at a time.
class ProgressBar {
 public:
  enum class Unit { kBytes, kCount };

  /// `what`: "loading". `total`: what `add` adds up to.
  ProgressBar(std::string what, int64_t total, Unit unit, ProgressPace pace = {})
      : what_(std::move(what)), total_(total), unit_(unit), pace_(pace) {}
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;
  ~ProgressBar();

  void add(int64_t count) { show(done_ + count); }

  /// The same for who knows how much is done by now.
  void show(int64_t done);

  /// "loading 25% of 269.1 MB rate=134.5 MB/s left=2s", after so many seconds.
  std::string text(double seconds) const;

 private:
  std::string what_;
  int64_t total_;
  Unit unit_;
  ProgressPace pace_;
  int64_t done_ = 0;
  Stopwatch since_begin_, since_shown_;
};

}  // namespace temper
