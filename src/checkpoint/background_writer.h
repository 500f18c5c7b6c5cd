// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <thread>
#include <vector>

#include "checkpoint/file_part.h"
#include "core/hash.h"

namespace temper {

/// Whether the writing thread gives way to threads that compute on the same cores.
enum class Haste { kGivesWay, kHurries };

/// Writes files one after the other on a thread of its own, which does nothing else: it never
/// communicates.
class BackgroundWriter {
 public:
  BackgroundWriter() = default;
  BackgroundWriter(const BackgroundWriter&) = delete;
  BackgroundWriter& operator=(const BackgroundWriter&) = delete;
  ~BackgroundWriter() { stop(); }

  /// Starts to write; nothing may be under way.
  void start(std::vector<FileJob> jobs, Haste haste = Haste::kHurries);

  /// Whether jobs were started and neither taken nor stopped since.
  bool is_active() const { return thread_.joinable(); }

  /// Whether all is written and flushed. Does not block.
  /// Throws: CheckpointError if something could not be written.
  bool is_done() const;

  /// How many of the jobs are written by now.
  int64_t num_written() const { return num_written_; }

  /// Waits for the end, and returns the digests of each job's parts, in order.
  /// Throws: as is_done.
  std::vector<std::vector<Digest>> take_digests();

  /// Gives up what is not written yet; waits for at most the piece under way.
  void stop();

 private:
  void write_all(const std::stop_token& stop);

  std::vector<FileJob> jobs_;
  std::vector<std::vector<Digest>> digests_;  // [job][part]
  std::exception_ptr error_;                  // Read only once is_over_ is set.
  std::atomic<bool> is_over_ = false;
  std::atomic<int64_t> num_written_ = 0;
  std::jthread thread_;
};

}  // namespace temper
