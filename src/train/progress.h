// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "train/metrics_file.h"

namespace temper {

/// Shows rank 0's progress: one line that redraws itself on a terminal, whole lines in a file.
class Progress {
 public:
  /// `every_steps`: how often a file gets a line. A terminal is redrawn at each step.
  Progress(int64_t num_steps, int64_t every_steps)
      : num_steps_(num_steps), every_steps_(every_steps) {}

  void show(int64_t step, const StepResult& result, const StepTiming& timing);

 private:
  int64_t num_steps_;
  int64_t every_steps_;
  double mean_seconds_ = 0.0;  // Of a step: an exponential mean, for the time left.
};

}  // namespace temper
