// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/manifest.h"

namespace temper {

/// A published checkpoint, whole or not.
struct FoundCheckpoint {
  int64_t step = 0;
  std::filesystem::path path;
};

/// Where the checkpoints of a run lie.
std::filesystem::path checkpoints_of(const std::filesystem::path& run);

/// The name of a checkpoint's folder: "step-00001000".
std::string checkpoint_name(int64_t step);
bool is_checkpoint_name(std::string_view name);

/// What in a folder is named as a checkpoint with `suffix`, newest first; nothing if there is no
/// such folder. Published checkpoints have no suffix.
/// Throws: CheckpointError if it is no folder; StorageError if it cannot be read.
std::vector<FoundCheckpoint> list_checkpoints(const std::filesystem::path& folder,
                                              std::string_view suffix = "");

struct ResolvedCheckpoint {
  std::filesystem::path folder;
  Manifest manifest;
};

/// What is asked of a checkpoint: returns its manifest, or throws CheckpointError if it is damaged.
using CheckpointCheck = std::function<Manifest(const std::filesystem::path&)>;

/// The checkpoint that a path means: itself, which must pass the check, or the newest one of a
/// run's folder that does. The log names each newer one that is damaged, with the reason. One that
/// cannot be read is never passed over. Local. Throws: CheckpointError if there is none;
/// UnjudgedError.
ResolvedCheckpoint resolve_checkpoint(const std::filesystem::path& path,
                                      const CheckpointCheck& check);

}  // namespace temper
