// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "io/json.h"
#include "train/evaluation.h"
#include "train/loss_trend.h"
#include "train/step_content.h"
#include "train/trainer.h"

namespace temper {

/// What one step took, beside its result.
struct StepTiming {
  double seconds = 0.0;
  double limit_share = 0.0;   ///< Of the speed that the matrix products alone would allow.
  double data_seconds = 0.0;  ///< Waiting for the loader.
  std::map<std::string_view, double> phase_seconds = {};  ///< Of rank 0, since the step before.
  int64_t bytes_sent = 0;   ///< By rank 0 to others, since the step before.
  int64_t num_padding = 0;  ///< Tokens that the rows had room for beside theirs.
  StepContent content = {};
};

/// What holds for every step of a run.
struct RunFacts {
  int64_t num_steps = 0;
  int64_t rows_per_step = 0;
  int64_t rows_per_micro_batch = 0;
  int64_t tokens_per_row = 0;  ///< At most.
  int64_t rows_per_epoch = 0;
  int64_t data_step = 0;                  ///< From which epochs are counted.
  std::vector<std::string> sources = {};  ///< What losses are told apart by.
};

/// `metrics.jsonl`: one JSON object a line, `{"kind": "step", ...}` for each step and
/// `{"kind": "evaluation", ...}` for each hold-out and `{"kind": "samples", ...}` for the run's
/// prompts, behind one `{"kind": "run", ...}` with what holds for them all. Rank 0 alone writes it.
///
/// Opening it for a run that resumes at `step` drops the lines of later steps, which an interrupted
/// job wrote after its last checkpoint: each step stands there once.
/// Throws: CheckpointError if the file cannot be written, or if a line of it is no line of ours.
class MetricsFile {
 public:
  MetricsFile(std::filesystem::path path, int64_t step);

  /// Whether the loss on this hold-out after `step` stands there already: an interrupted job may
  /// have saved the step and not measured all that was due at it.
  bool has_evaluation(int64_t step, const std::string& name) const {
    return losses(name).contains(step);
  }

  /// All that stand there of a hold-out.
  const HoldOutLosses& losses(const std::string& name) const;

  /// Adds a line of what the run is, unless the last such line says the same.
  void add_run(int64_t step, const RunFacts& facts);

  void add_step(int64_t step, const StepResult& result, const StepTiming& timing);

  /// With what the documents tell: their number, the loss' standard error, bits per byte. Of a
  /// general hold-out with its *forgetting*: by how much the loss is above the first one.
  /// Returns that.
  std::optional<double> add_evaluation(int64_t step, const HoldOut& holdout,
                                       const EvaluationResult& result);

  /// Adds a line of what the run's prompts are answered after `step`: {"id", "prompt", "answers"}.
  void add_samples(int64_t step, const std::vector<Json>& samples);
  bool has_samples(int64_t step) const { return sampled_.contains(step); }

  /// Returns when storage has every line, or has said why not, which is logged. Called before a
  /// step is saved, since nobody could write its line again.
  void sync() const;

 private:
  void take_over(int64_t last_step);
  void append(const std::string& line);

  std::filesystem::path path_;
  std::map<std::string, HoldOutLosses> losses_;  // By hold-out.
  std::set<int64_t> sampled_;                    // Steps.
  std::string run_facts_;                        // The last line of them, without its step.
};

}  // namespace temper
