// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>

namespace temper {

/// The checkpoint that a path means: itself, or the newest one with all files in full length of a
/// run's folder. Nothing is hashed.
/// Throws: CheckpointError if there is none.
std::filesystem::path resolve_checkpoint(const std::filesystem::path& path);

}  // namespace temper
