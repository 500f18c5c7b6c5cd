// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace temper {

/// What a source of the training data gives to the whole run.
struct SourceUse {
  std::string path;         ///< Or the pattern of a set.
  std::string fingerprint;  ///< Of its content.
  double share = 0.0;       ///< Of all tokens of the run.
  int64_t num_tokens = 0;
  double epochs = 0.0;  ///< How often it is passed over.
};

/// Where a run went on from another one's checkpoint: its steps and micro-batches count on from
/// there. All is zero where there was no run before.
struct Origin {
  std::string trajectory;        ///< Of the run before, which decides all up to `step`.
  int64_t step = 0;              ///< The steps that were done there.
  int64_t schedule_step = 0;     ///< The step at which the schedule begins.
  int64_t data_step = 0;         ///< The step at which the order of the data begins,
  int64_t data_micro_batch = 0;  ///< and the index of its first micro-batch.
  std::string checkpoint;        ///< Its folder, for people,
  std::string changes;           ///< and what was otherwise in the run before.
};

/// All that the next step needs besides weights and moments: the content of state.json.
struct RunState {
  int64_t step = 0;               ///< Optimizer steps done, skipped ones included.
  int64_t num_updates = 0;        ///< Steps that changed the weights: AdamW's bias correction.
  int64_t num_target_tokens = 0;  ///< Targets seen.
  int64_t next_micro_batch = 0;   ///< The data cursor: global index of the next micro-batch.
  int64_t num_skipped = 0;        ///< Steps without an update: for want of a target, or with a loss
                                  ///< or norm that was not finite.
  int64_t num_skipped_in_a_row = 0;         ///< Up to now.
  int64_t num_without_target_in_a_row = 0;  ///< Of these, those without a target.
  std::string trajectory = {};          ///< Digest of all that decides the result: see RunConfig.
  std::string decided_by = {};          ///< The text of which it is the digest; older ones lack it.
  Origin origin = {};                   ///< Where the run began, if at another one's checkpoint.
  std::string config_yaml = {};         ///< The resolved configuration, for people.
  std::vector<SourceUse> mixture = {};  ///< [source]; written for people and reports, not read.

  /// Counts one step that is over.
  void count_step(int64_t num_targets, bool updated, int64_t num_micro_batches) {
    ++step;
    next_micro_batch += num_micro_batches;
    num_target_tokens += num_targets;
    if (updated) {
      ++num_updates;
      num_skipped_in_a_row = 0;
      num_without_target_in_a_row = 0;
    } else {
      ++num_skipped;
      ++num_skipped_in_a_row;
      if (num_targets == 0) ++num_without_target_in_a_row;
    }
  }
};

/// The text of state.json.
std::string to_json(const RunState& state);

/// Throws: CheckpointError if a member is missing or cannot be; `name` is the file's.
RunState parse_run_state(std::string_view text, const std::string& name);

/// The state.json of a checkpoint's folder. Throws: CheckpointError.
RunState read_run_state(const std::filesystem::path& checkpoint);

}  // namespace temper
