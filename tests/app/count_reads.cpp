// SPDX-License-Identifier: Apache-2.0
// Preloaded into temper: at its end each rank writes, to $TEMPER_COUNTS/RANK, a line for each file
// that it opened: how often, how many bytes of it it read at given places, and its path.
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/types.h>
#include <unistd.h>

#include <cstdarg>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <map>
#include <mutex>
#include <string>

namespace {

struct Count {
  int64_t opens = 0;
  int64_t bytes = 0;
};

class Counts {
 public:
  void add_open(int file, const char* path) {
    const std::lock_guard lock(mutex_);
    ++counts_[path].opens;
    paths_[file] = path;
  }

  void add_read(int file, int64_t num_bytes) {
    const std::lock_guard lock(mutex_);
    const auto path = paths_.find(file);
    if (path != paths_.end() && num_bytes > 0) counts_[path->second].bytes += num_bytes;
  }

  ~Counts() {
    const char* folder = std::getenv("TEMPER_COUNTS");
    const char* rank = std::getenv("OMPI_COMM_WORLD_RANK");
    if (folder == nullptr || rank == nullptr) return;
    std::ofstream out(std::string(folder) + "/" + rank);
    for (const auto& [path, count] : counts_) {
      out << count.opens << ' ' << count.bytes << ' ' << path << '\n';
    }
  }

 private:
  std::mutex mutex_;
  std::map<std::string, Count> counts_;
  std::map<int, std::string> paths_;  // The last file that had the descriptor.
};

Counts& counts() {
  static Counts all;
  return all;
}

template <typename Call>
Call library_call(const char* name) {
  return reinterpret_cast<Call>(::dlsym(RTLD_NEXT, name));
}

int open_counted(const char* name, const char* path, int flags, mode_t mode) {
  const int file = library_call<int (*)(const char*, int, ...)>(name)(path, flags, mode);
  if (file >= 0) counts().add_open(file, path);
  return file;
}

ssize_t read_counted(const char* name, int file, void* bytes, size_t count, off_t offset) {
  using Call = ssize_t (*)(int, void*, size_t, off_t);
  const ssize_t done = library_call<Call>(name)(file, bytes, count, offset);
  counts().add_read(file, done);
  return done;
}

mode_t mode_of(int flags, va_list arguments) {
  return (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : 0;
}

}  // namespace

extern "C" int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_of(flags, arguments);
  va_end(arguments);
  return open_counted("open", path, flags, mode);
}

extern "C" int open64(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_of(flags, arguments);
  va_end(arguments);
  return open_counted("open64", path, flags, mode);
}

extern "C" ssize_t pread(int file, void* bytes, size_t count, off_t offset) {
  return read_counted("pread", file, bytes, count, offset);
}

extern "C" ssize_t pread64(int file, void* bytes, size_t count, off_t offset) {
  return read_counted("pread64", file, bytes, count, offset);
}
