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
  std::string trajectory;               ///< Digest of all that decides the result: see RunConfig.
  std::string config_yaml;              ///< The resolved configuration, for people.
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
