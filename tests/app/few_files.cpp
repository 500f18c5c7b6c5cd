// SPDX-License-Identifier: Apache-2.0
// Preloaded into temper: every file system has room for seven more files.
#include <dlfcn.h>
#include <sys/statvfs.h>

extern "C" int statvfs(const char* path, struct statvfs* space) noexcept {
  using Call = int (*)(const char*, struct statvfs*);
  static const auto next = reinterpret_cast<Call>(::dlsym(RTLD_NEXT, "statvfs"));
  const int status = next(path, space);
  space->f_files = 1000;
  space->f_favail = 7;
  return status;
}
