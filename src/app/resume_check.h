// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include "app/run_inputs.h"
#include "checkpoint/manifest.h"
#include "checkpoint/run_state.h"
#include "config/run_config.h"
#include "config/trajectory.h"

namespace temper {

/// A checkpoint that a run would go on from.
struct FoundState {
  std::filesystem::path checkpoint;
  int64_t format_version = Manifest::kFormatVersion;  ///< Of its manifest.
  RunState state;
};

/// The checkpoint that `checkpoint.resume` means, with all files in full length; nothing is hashed.
/// Nothing if the run starts afresh.
/// Throws: CheckpointError if there are checkpoints, but none is whole.
std::optional<FoundState> find_state(const RunConfig& config);

/// The checkpoint that `continue.from` names, as `find_state`; it must be set.
FoundState find_continued(const RunConfig& config);

/// Which machine asks: on a login node `auto` may mean another dtype than where the run computes.
enum class AskedOn { kLoginNode, kComputeNode };

/// A checkpoint of another trajectory would be continued into a result that no one asked for, and
/// so would one that an older temper wrote within a warm-up at other rates or of other PiSSA.
/// Throws: ConfigError if `found` is of a run with another result, with what differs.
void require_same_trajectory(const RunConfig& config, const TrajectoryFacts& facts,
                             const FoundState& found, AskedOn machine);

/// Where the run begins at another one's checkpoint: as its own newest checkpoint says, and else by
/// `continue.from`. All is zero where it begins by itself.
/// Throws: CheckpointError if that checkpoint cannot be used; ConfigError if the run's own ones
///   began at another.
Origin find_origin(const RunConfig& config);

/// What a run has otherwise than the one from whose checkpoint it goes on, for people.
/// Throws: ConfigError if that is more than `continue.change` lists; CheckpointError if the
///   checkpoint does not keep what decided its run's result.
std::string require_continuable(const RunConfig& config, const TrajectoryFacts& facts,
                                const FoundState& before, AskedOn machine);

/// Throws: ModelError if the model is not the one on which the adapter of a checkpoint was trained,
///   or of which its run froze a part.
void require_same_base(const std::filesystem::path& checkpoint, const OpenedModel& model);

/// Of all checkpoints in a run's folder that have their files.
int64_t bytes_of_checkpoints(const std::filesystem::path& run);

}  // namespace temper
