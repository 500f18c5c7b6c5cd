// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>

#include "checkpoint/manifest.h"

namespace temper {

/// The checkpoint that a path means: itself, or the newest one with all files in full length of a
/// run's folder. Nothing is hashed.
/// Throws: CheckpointError if there is none.
std::filesystem::path resolve_checkpoint(const std::filesystem::path& path);

/// Copies the files of a checkpoint that lie below `subfolder` to `destination`, flat; each byte is
/// compared with the manifest's hashes on its way. Returns their number of bytes.
/// Throws: CheckpointError, naming the file and the bytes that were altered.
int64_t copy_verified(const std::filesystem::path& checkpoint, const Manifest& manifest,
                      const std::string& subfolder, const std::filesystem::path& destination);

}  // namespace temper
