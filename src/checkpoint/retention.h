// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>

namespace temper {

/// Removes what a killed job left: folders step-*.tmp and step-*.trash, and no others.
void remove_leftovers(const std::filesystem::path& folder);

/// Renames every checkpoint of a step after `step` to step-*.superseded: it is damaged, or of a
/// branch of the run that is left now. Nothing reads or removes it any more.
/// Throws: CheckpointError.
void set_aside_after(const std::filesystem::path& folder, int64_t step);

/// Keeps the newest `keep` checkpoints whose files are all there in full length, and those between;
/// removes the older ones. What cannot be removed is logged and left.
void remove_old_checkpoints(const std::filesystem::path& folder, int64_t keep);

/// Throws: CheckpointError.
void rename_folder(const std::filesystem::path& from, const std::filesystem::path& to);

/// Makes `latest` in the folder point to a checkpoint in it, atomically.
/// Throws: CheckpointError.
void point_latest_to(const std::filesystem::path& checkpoint);

}  // namespace temper
