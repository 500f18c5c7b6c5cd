// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace temper {

/// Removes a folder with all that is in it; what cannot be removed is logged. Shows that the rank
/// lives, as long as it may take.
void remove_or_log(const std::filesystem::path& folder);

/// Removes what a killed job left: folders step-*.tmp and step-*.trash, and no others.
void remove_leftovers(const std::filesystem::path& folder);

/// Renames every checkpoint of a step after `step` to step-*.superseded: it is damaged, or of a
/// branch of the run that is left now. Nothing reads or removes it any more.
/// Throws: CheckpointError.
void set_aside_after(const std::filesystem::path& folder, int64_t step);

/// Keeps the newest `keep` checkpoints up to step `newest` whose files are all there in full
/// length, all that are not older than these, and that of step `best`; removes the others. What
/// cannot be removed is logged and left.
void remove_old_checkpoints(const std::filesystem::path& folder, int64_t keep, int64_t newest,
                            std::optional<int64_t> best = {});

/// Throws: CheckpointError.
void rename_folder(const std::filesystem::path& from, const std::filesystem::path& to);

/// Makes a link in the folder, such as `latest`, point to a checkpoint in it, atomically.
/// Throws: CheckpointError.
void point_to(const std::filesystem::path& checkpoint, const std::string& name);

}  // namespace temper
