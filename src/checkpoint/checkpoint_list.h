// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

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

}  // namespace temper
