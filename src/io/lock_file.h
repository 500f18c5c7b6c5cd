// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "io/json.h"

namespace temper {

/// How often the owner of a lock renews it, and for how long it may fail to before it is dead.
struct LockTimes {
  std::chrono::milliseconds renewal{2000};
  std::chrono::milliseconds patience{12000};
};

/// A lock that works on any shared file system, without flock: a file that only one process can
/// create, and that a thread of the owner renews. It is taken over from an owner that is dead: its
/// process is gone from this machine, or it was watched for the whole patience and renewed nothing.
///
/// A file system that fails now and then does not cost the lock: a renewal that fails is made up by
/// the next one.
///
/// Throws: LaunchError if a living owner has it; the message tells its `owner`, host and process,
///   and since when. StopRequest if a signal asks for a stop before that is known; the file is left
///   as it is. CheckpointError if the file cannot be read, written or removed, or is a link
///   or a folder.
class LockFile {
 public:
  /// `owner` says in a few words who locks, say which job. Blocks until it is known whether an
  /// owner that is already there lives.
  LockFile(std::filesystem::path path, std::string owner, LockTimes times = {});
  LockFile(const LockFile&) = delete;
  LockFile& operator=(const LockFile&) = delete;

  /// Removes the file if it is still this lock's.
  ~LockFile();

  /// False once a renewal has read that another process has it, or found it gone after so long
  /// that another one may have had it: this one stood still for too long. Reads no file.
  bool is_held() const { return !is_lost_; }

 private:
  enum class Owner { kSelf, kAnother, kUnknown };
  struct Renewal {
    bool is_lost = false;
    int error = 0;  // Why it failed; it may be tried again.
  };

  void acquire();
  bool create() const;
  int try_to_create() const;
  Owner whose(const std::optional<std::string>& text) const;
  void renew(const std::stop_token& stop);
  Renewal try_to_renew(double seconds_since_renewal, int num_failures);
  std::string content() const;

  std::filesystem::path path_;
  LockTimes times_;
  Json identity_;  // All but the number of renewals.
  std::mutex mutex_;
  int64_t num_renewals_ = 0;  // The renewing thread's, and the destructor's after it.
  std::atomic<bool> is_lost_ = false;
  std::condition_variable_any stopped_;
  std::jthread renewal_;
};

}  // namespace temper
