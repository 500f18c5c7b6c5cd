// SPDX-License-Identifier: Apache-2.0
#include "app/resume_check.h"

#include "app/resolve_checkpoint.h"
#include "checkpoint/checkpoint_list.h"
#include "checkpoint/verification.h"
#include "core/concat.h"
#include "core/error.h"
#include "io/file.h"

namespace temper {
namespace fs = std::filesystem;
namespace {

// On another machine `auto` may have meant another dtype.
bool is_trajectory(const std::string& digest, const RunConfig& config, TrajectoryFacts facts) {
  if (trajectory_digest(config, facts) == digest) return true;
  if (config.model.dtype != ModelOptions::Dtype::kAuto) return false;
  facts.compute_dtype = facts.compute_dtype == ComputeDtype::kFloat32 ? ComputeDtype::kBfloat16
                                                                      : ComputeDtype::kFloat32;
  return trajectory_digest(config, facts) == digest;
}

}  // namespace

std::optional<FoundState> find_state(const RunConfig& config) {
  const std::string& resume = config.checkpoint.resume;
  if (resume == "never") return std::nullopt;
  const bool is_auto = resume == "auto";
  if (is_auto && list_checkpoints(checkpoints_of(config.run.folder)).empty()) return std::nullopt;
  const fs::path checkpoint = resolve_checkpoint(is_auto ? config.run.folder : resume);
  check_files(checkpoint);
  const fs::path file = checkpoint / "state.json";
  return FoundState{checkpoint, parse_run_state(read_file(file, FilePurpose::kCheckpoint), file)};
}

void require_same_trajectory(const RunConfig& config, const TrajectoryFacts& facts,
                             const FoundState& found) {
  if (is_trajectory(found.state.trajectory, config, facts)) return;
  throw ConfigError(concat(found.checkpoint.string(), " is of a run with another result: ",
                           explain_other_trajectory(found.state.config_yaml, config)),
                    "set the options back, or set run.folder to a new folder");
}

int64_t bytes_of_checkpoints(const fs::path& run) {
  int64_t bytes = 0;
  for (const FoundCheckpoint& found : list_checkpoints(checkpoints_of(run))) {
    try {
      bytes += check_files(found.path).bytes();
    } catch (const CheckpointError&) {
      continue;  // What a damaged checkpoint occupies is not known.
    }
  }
  return bytes;
}

}  // namespace temper
