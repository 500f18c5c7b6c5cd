// SPDX-License-Identifier: Apache-2.0
#include "app/storage.h"

#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>

#include "core/concat.h"
#include "core/error.h"

namespace temper {
namespace fs = std::filesystem;
namespace {

fs::path nearest_existing(const fs::path& folder) {
  fs::path path = fs::absolute(folder).lexically_normal();
  std::error_code error;
  while (!fs::exists(path, error) && path.has_relative_path()) path = path.parent_path();
  return path;
}

}  // namespace

Storage find_storage(const fs::path& folder) {
  const fs::path path = nearest_existing(folder);
  const auto refuse = [&](const std::string& reason) {
    throw CheckpointError(concat("run.folder ", folder.string(), " cannot be written: ", reason),
                          "set run.folder to a folder that you may write to");
  };
  if (!fs::is_directory(path)) refuse(path.string() + " is no folder");
  if (::access(path.c_str(), W_OK | X_OK) != 0) {
    refuse(concat(path.string(), ": ", std::strerror(errno)));
  }
  struct statvfs status {};
  if (::statvfs(path.c_str(), &status) != 0) {
    refuse(concat(path.string(), ": ", std::strerror(errno)));
  }
  return {.existing = path,
          .free_bytes = static_cast<int64_t>(status.f_bavail * status.f_frsize),
          .free_files = status.f_files == 0 ? -1 : static_cast<int64_t>(status.f_favail)};
}

}  // namespace temper
