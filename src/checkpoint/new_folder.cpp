// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/new_folder.h"

#include <system_error>
#include <utility>

#include "checkpoint/file_part.h"
#include "checkpoint/retention.h"
#include "core/concat.h"
#include "core/error.h"
#include "io/file.h"

namespace temper {
namespace fs = std::filesystem;

void make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (!error) return;
  throw CheckpointError(concat("cannot make the folder ", folder.string(), ": ", error.message()),
                        "check the path, its rights and the storage");
}

void require_new_folder(const fs::path& destination) {
  if (!destination.empty() && !fs::exists(fs::symlink_status(destination))) return;
  throw ConfigError(concat("'", destination.string(), "' exists already"),
                    "name a folder that does not exist yet");
}

// "a/b/" names the folder that "a/b" names.
NewFolder::NewFolder(fs::path destination)
    : destination_(destination.has_filename() ? std::move(destination) : destination.parent_path()),
      temporary_(destination_.string() + ".tmp") {
  require_new_folder(destination_);
  std::error_code ignored;
  fs::remove_all(temporary_, ignored);
  make_folder(temporary_);
}

NewFolder::~NewFolder() {
  std::error_code ignored;
  fs::remove_all(temporary_, ignored);
}

void NewFolder::write(const TextFile& text) const {
  make_folder((temporary_ / text.path).parent_path());
  write_parts({temporary_ / text.path, {{0, text.text, {}, DType::kU8}}});
}

void NewFolder::copy(const fs::path& file) const {
  copy_file(file, temporary_ / file.filename(), FilePurpose::kCheckpoint);
}

void NewFolder::publish() const {
  sync_folder(temporary_, FilePurpose::kCheckpoint);
  rename_folder(temporary_, destination_);
  sync_folder(fs::absolute(destination_).parent_path(), FilePurpose::kCheckpoint);
}

}  // namespace temper
