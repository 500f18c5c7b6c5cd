// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>

namespace temper {

/// The file system that a folder lies on, or will lie on.
struct Storage {
  std::filesystem::path existing;  ///< The folder itself, or the nearest one above it.
  int64_t free_bytes = 0;          ///< For this user.
  int64_t free_files = 0;          ///< -1 where the file system does not count them.
};

/// Throws: CheckpointError if no folder could be made there, or nothing could be written to it.
Storage find_storage(const std::filesystem::path& folder);

}  // namespace temper
