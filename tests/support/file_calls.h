// SPDX-License-Identifier: Apache-2.0
// Definitions of `open` and `pread` that stand before the C library's, in a program or in a library
// that is preloaded: whoever includes this is told of each call after it was made. Each has two
// names, of which the compiler's flags choose one.
#pragma once

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/types.h>

#include <cstdarg>

namespace temper::testing {

/// To be defined by the file that includes this. `file` is -1 if the call failed.
void after_open(int file, const char* path);

/// The same; `num_bytes` is -1 if the call failed.
void after_read(int file, ssize_t num_bytes);

inline int open_by(const char* name, const char* path, int flags, va_list arguments) {
  using Call = int (*)(const char*, int, ...);
  const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : 0;
  const int file = reinterpret_cast<Call>(::dlsym(RTLD_NEXT, name))(path, flags, mode);
  after_open(file, path);
  return file;
}

inline ssize_t read_by(const char* name, int file, void* bytes, size_t count, off_t offset) {
  using Call = ssize_t (*)(int, void*, size_t, off_t);
  const auto call = reinterpret_cast<Call>(::dlsym(RTLD_NEXT, name));
  const ssize_t num_bytes = call(file, bytes, count, offset);
  after_read(file, num_bytes);
  return num_bytes;
}

}  // namespace temper::testing

extern "C" {
int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const int file = temper::testing::open_by("open", path, flags, arguments);
  va_end(arguments);
  return file;
}

int open64(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const int file = temper::testing::open_by("open64", path, flags, arguments);
  va_end(arguments);
  return file;
}

ssize_t pread(int file, void* bytes, size_t count, off_t offset) {
  return temper::testing::read_by("pread", file, bytes, count, offset);
}

ssize_t pread64(int file, void* bytes, size_t count, off_t offset) {
  return temper::testing::read_by("pread64", file, bytes, count, offset);
}
}
