// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <mpi.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "comm/communicator.h"

namespace temper {

/// The one thread of this process that calls MPI while communicators exist.
///
/// A blocking MPI call spins until its peers come, and takes a core from the computation. The
/// worker starts non-blocking calls in the order in which they are submitted and looks at all that
/// are under way together, with naps in between while nobody waits for them.
class MpiWorker : public std::enable_shared_from_this<MpiWorker> {
 public:
  /// Makes non-blocking MPI calls and appends their requests. Keeps alive what they use.
  using Start = std::function<void(std::vector<MPI_Request>& requests)>;

  MpiWorker();
  MpiWorker(const MpiWorker&) = delete;
  MpiWorker& operator=(const MpiWorker&) = delete;
  /// Completes what is under way; while an exception is in flight, leaves it as it is.
  ~MpiWorker();

  /// The worker of this process, which lives as long as somebody holds it.
  static std::shared_ptr<MpiWorker> shared();

  /// Runs `start` after all submitted before it. The result waits until the requests it made are
  /// complete, and throws what `start` threw, or CommError with `call` in its text. To be called
  /// from one thread at a time.
  Pending submit(const char* call, Start start);

 private:
  using Clock = std::chrono::steady_clock;

  struct Operation {
    const char* call;
    Start start;
    std::promise<void> done;
    bool is_settled = false;  // Whether `done` has its result.
    size_t num_requests = 0;  // Not yet complete.
  };

  void run();
  void start(const std::shared_ptr<Operation>& operation);
  void poll();
  void note_progress(int num_complete, std::chrono::nanoseconds look);
  void complete(size_t index, int status);
  void forget_complete();
  void rest(std::unique_lock<std::mutex>& lock);
  void wait(std::shared_future<void> done);

  // Shared with the callers, under `mutex_`.
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::shared_ptr<Operation>> submitted_;
  int num_waiting_ = 0;
  bool is_stopping_ = false;
  bool is_abandoned_ = false;

  // The worker's own.
  std::vector<MPI_Request> requests_;               // [request]
  std::vector<std::shared_ptr<Operation>> owners_;  // [request]
  std::vector<int> indices_;                        // [request], for MPI_Testsome
  std::vector<MPI_Status> statuses_;                // [request], for MPI_Testsome
  Clock::time_point last_progress_ = Clock::now();
  int num_ranks_ = 1;
  uint64_t num_looks_ = 0;
  std::chrono::nanoseconds time_of_looks_{0};  // Of the processor's, since the last few.
  std::chrono::nanoseconds cheapest_look_ = std::chrono::seconds(1);
  bool last_look_was_long_ = false;

  std::thread thread_;  // Last, so that all else exists when it starts.
};

}  // namespace temper
