// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>

#include "io/file.h"

namespace temper {

/// Makes a folder, and those that it lies in, unless it is there. Throws: CheckpointError.
void make_folder(const std::filesystem::path& folder);

/// Throws: ConfigError if something of this name exists, or it is no name.
void require_new_folder(const std::filesystem::path& destination);

/// A folder under a temporary name, removed unless it is published: it appears whole or not at all.
class NewFolder {
 public:
  /// Throws: ConfigError if `destination` exists; CheckpointError if it cannot be made.
  explicit NewFolder(std::filesystem::path destination);
  NewFolder(const NewFolder&) = delete;
  NewFolder& operator=(const NewFolder&) = delete;
  ~NewFolder();

  /// Where to write.
  const std::filesystem::path& path() const { return temporary_; }

  /// Throws: CheckpointError.
  void write(const TextFile& text) const;

  /// Copies a file of any size under its name.
  /// Throws: CheckpointError.
  void copy(const std::filesystem::path& file) const;

  /// Throws: CheckpointError.
  void publish() const;

 private:
  std::filesystem::path destination_;
  std::filesystem::path temporary_;
};

}  // namespace temper
