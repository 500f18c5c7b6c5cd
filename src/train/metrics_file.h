// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "train/trainer.h"

namespace temper {

/// What one step took, beside its result.
struct StepTiming {
  double seconds = 0.0;
  int64_t num_tokens = 0;     ///< Of the global batch.
  double limit_share = 0.0;   ///< Of the speed that the matrix products alone would allow.
  double data_seconds = 0.0;  ///< Waiting for the loader.
};

/// `metrics.jsonl`: one JSON object a line, `{"kind": "step", ...}` for each step and
/// `{"kind": "evaluation", ...}` for each hold-out. Rank 0 alone writes it.
///
/// Opening it for a run that resumes at `step` drops the lines of later steps, which an interrupted
/// job wrote after its last checkpoint: each step stands there once.
/// Throws: CheckpointError if the file cannot be written.
class MetricsFile {
 public:
  MetricsFile(std::filesystem::path path, int64_t step);

  void add_step(int64_t step, const StepResult& result, const StepTiming& timing);
  void add_evaluation(int64_t step, const std::string& name, double loss, int64_t num_targets);

 private:
  void append(const std::string& line);

  std::filesystem::path path_;
};

}  // namespace temper
