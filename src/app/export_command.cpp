// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <system_error>

#include "app/checkpoint_copy.h"
#include "app/commands.h"
#include "checkpoint/retention.h"
#include "checkpoint/verification.h"
#include "core/concat.h"
#include "core/error.h"
#include "io/file.h"

namespace temper {
namespace fs = std::filesystem;
namespace {

// A folder under a temporary name, removed unless it was published.
class NewFolder {
 public:
  explicit NewFolder(fs::path destination)
      : destination_(std::move(destination)),
        temporary_(concat(destination_.string(), ".", ::getpid(), ".tmp")) {
    std::error_code error;
    fs::create_directories(temporary_, error);
    if (!error) return;
    throw CheckpointError(
        concat("cannot make the folder ", temporary_.string(), ": ", error.message()),
        "check the path and its rights");
  }
  NewFolder(const NewFolder&) = delete;
  NewFolder& operator=(const NewFolder&) = delete;
  ~NewFolder() {
    std::error_code ignored;
    fs::remove_all(temporary_, ignored);
  }

  const fs::path& path() const { return temporary_; }

  void publish() const {
    sync_folder(temporary_, FilePurpose::kCheckpoint);
    rename_folder(temporary_, destination_);
    sync_folder(fs::absolute(destination_).parent_path(), FilePurpose::kCheckpoint);
  }

 private:
  fs::path destination_;
  fs::path temporary_;
};

// "a/b/" names the folder that "a/b" names.
fs::path without_trailing_slash(const fs::path& path) {
  return path.has_filename() ? path : path.parent_path();
}

}  // namespace

int run_export(const std::string& checkpoint, const std::string& destination) {
  if (destination.empty() || fs::exists(fs::symlink_status(destination))) {
    throw ConfigError(concat("'", destination, "' exists already"),
                      "name a folder that does not exist yet");
  }
  const fs::path source = resolve_checkpoint(checkpoint);
  const Manifest manifest = check_files(source);
  const NewFolder folder(without_trailing_slash(destination));
  const int64_t bytes = copy_verified(source, manifest, "model", folder.path());
  folder.publish();
  std::printf("exported=%s step=%lld dtype=%s bytes=%lld to=%s\n", source.c_str(),
              static_cast<long long>(manifest.step), manifest.model_dtype.c_str(),
              static_cast<long long>(bytes), destination.c_str());
  return 0;
}

}  // namespace temper
