// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <deque>
#include <functional>

// Doubles of what CUDA's headers only declare.

/// A stream whose work is done as late as may be: when another stream, or the host, waits for it.
/// The null stream is the simulated device's, whose work is done when it is queued.
struct CUstream_st {
  std::deque<std::function<void()>> work;  // Not done yet.
  int64_t num_queued = 0;
  int64_t ready_for =
      -1;  // What the device had done when this stream was last told to wait for it.
  bool has_answered = false;  // cudaStreamQuery, since work was last queued.
};

struct CUevent_st {
  CUstream_st* stream = nullptr;  // Null: of the device's own.
  int64_t place = 0;              // Of that stream's work: what comes before it.
};

namespace temper::testing {

/// Queues work on a stream that is not the device's own.
/// Throws: std::logic_error, unless the stream waits for all that the device has been given.
void queue_on(cudaStream_t stream, std::function<void()> work);

/// Does all of a stream's work.
void finish(cudaStream_t stream);

/// Drops it.
void drop(cudaStream_t stream);

/// Streams and events that are there now.
int64_t num_cuda_handles();

}  // namespace temper::testing
