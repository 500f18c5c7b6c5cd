// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "train/metrics_file.h"

namespace temper {

/// Shows rank 0's progress: one line that redraws itself on a terminal, whole lines in a file.
class Progress {
 public:
  /// `every_steps`: how often a file gets a line. A terminal is redrawn at each step.
  Progress(int64_t num_steps, int64_t every_steps);

  void show(int64_t step, const StepResult& result, const StepTiming& timing);

  /// Ends a line that is being redrawn, so that other output starts on a fresh one.
  void end_line();

 private:
  int64_t num_steps_;
  int64_t every_steps_;
  bool is_terminal_;
  bool is_line_open_ = false;
  double mean_seconds_ = 0.0;  // Of a step: an exponential mean, for the time left.
};

/// `seconds` as people write it: 42s, 3m07s, 5h02m.
std::string duration_text(double seconds);

}  // namespace temper
