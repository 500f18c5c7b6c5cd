// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <mutex>
#include <stop_token>
#include <thread>
#include <variant>
#include <vector>

#include "data/micro_batch.h"

namespace temper {

/// Which micro-batches one rank takes: number j of its own is `first + j * stride` of all.
struct RankSequence {
  int64_t first = 0;   ///< The data cursor plus the rank.
  int64_t stride = 1;  ///< The number of ranks.
};

struct LoaderOptions {
  int num_threads = 2;
  int depth = 2;  ///< So many micro-batches are ready or being read ahead of the consumer.
};

/// Reads one rank's micro-batches ahead, in a pool of threads, and hands them out in order.
class Loader {
 public:
  using Read = std::function<MicroBatch(int64_t index)>;

  /// `read` is called from several threads at once. The destructor waits for calls under way.
  /// Throws: std::invalid_argument without threads or depth; Error if the system gives no thread.
  Loader(Read read, RankSequence sequence, LoaderOptions options);
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;
  ~Loader();

  /// The next micro-batch. Throws what `read` threw for it.
  MicroBatch next();

  /// How long `next` has waited in all: what data costs beyond the computation.
  double waited_seconds() const { return waited_seconds_; }

 private:
  using Outcome = std::variant<MicroBatch, std::exception_ptr>;

  void work(const std::stop_token& stop);
  Outcome read_outcome(int64_t number) const;

  Read read_;
  RankSequence sequence_;
  LoaderOptions options_;
  double waited_seconds_ = 0.0;

  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::map<int64_t, Outcome> ready_;  // By the rank's own number.
  int64_t next_to_read_ = 0;
  int64_t next_to_give_ = 0;
  std::vector<std::jthread> threads_;  // Last: they start after all else and end before it.
};

}  // namespace temper
