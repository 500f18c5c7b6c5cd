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

/// Which micro-batches one rank takes: in each round of a step the next one for each rank, in the
/// order of ranks. Where they do not divide, the last round has none for the last ranks.
struct RankSequence {
  int64_t first = 0;     ///< The data cursor: the first micro-batch of the first step.
  int64_t per_step = 1;  ///< Of all ranks together, at least one for each.
  int64_t rank = 0;
  int64_t num_ranks = 1;

  /// How many of a step are this rank's.
  int64_t own_per_step() const { return (per_step - rank + num_ranks - 1) / num_ranks; }

  /// The index, among all, of the rank's own micro-batch `number`.
  int64_t index(int64_t number) const {
    const int64_t step = number / own_per_step();
    const int64_t round = number % own_per_step();
    return first + step * per_step + round * num_ranks + rank;
  }
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
  /// Throws: std::invalid_argument without threads, depth or a micro-batch for the rank; Error if
  /// the system gives no thread.
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
