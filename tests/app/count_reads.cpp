// SPDX-License-Identifier: Apache-2.0
// Preloaded into temper: at its end each rank writes, to $TEMPER_COUNTS/RANK, a line for each file
// that it opened: how often, how many bytes of it it read at given places, and its path.
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <map>
#include <mutex>
#include <string>

#include "support/file_calls.h"

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

  void write() const {
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

// It outlives main, whose end is not that of all threads.
Counts& counts() {
  static auto* const all = new Counts;
  return *all;
}

[[maybe_unused]] const int is_registered = std::at_quick_exit([] { counts().write(); });

}  // namespace

namespace temper::testing {

void after_open(int file, const char* path) {
  if (file >= 0) counts().add_open(file, path);
}

void after_read(int file, ssize_t num_bytes) { counts().add_read(file, num_bytes); }

}  // namespace temper::testing
