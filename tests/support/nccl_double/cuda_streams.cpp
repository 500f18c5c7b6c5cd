// SPDX-License-Identifier: Apache-2.0
#include "support/nccl_double/cuda_streams.h"

#include <stdexcept>
#include <utility>

#include "support/simulated_device/device_counts.h"

namespace temper::testing {
namespace {

int64_t num_handles = 0;

// How much the device has been given to do: a clock of its own stream.
int64_t device_clock() {
  const DeviceCounts counts = device_counts();
  return counts.launches + counts.copies_in + counts.copies_out;
}

void run_up_to(CUstream_st& stream, int64_t place) {
  while (!stream.work.empty() &&
         stream.num_queued - static_cast<int64_t>(stream.work.size()) < place) {
    const std::function<void()> work = std::move(stream.work.front());
    stream.work.pop_front();
    work();
  }
}

}  // namespace

void queue_on(cudaStream_t stream, std::function<void()> work) {
  if (stream == nullptr) throw std::logic_error("a collective on the stream of the computation");
  if (stream->ready_for != device_clock()) {
    throw std::logic_error("a collective that does not wait for what it sends");
  }
  stream->work.push_back(std::move(work));
  ++stream->num_queued;
  stream->has_answered = false;
}

void finish(cudaStream_t stream) { run_up_to(*stream, stream->num_queued); }

void drop(cudaStream_t stream) { stream->work.clear(); }

int64_t num_cuda_handles() { return num_handles; }

}  // namespace temper::testing

using namespace temper::testing;

extern "C" {

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned int flags) {
  if (flags != cudaStreamNonBlocking) return cudaErrorInvalidValue;  // It would wait for all work.
  *stream = new CUstream_st();
  ++num_handles;
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  finish(stream);
  delete stream;
  --num_handles;
  return cudaSuccess;
}

// Work takes its time: it is over at the second question.
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  if (!std::exchange(stream->has_answered, true)) return cudaErrorNotReady;
  finish(stream);
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned int flags) {
  if (flags != cudaEventDisableTiming) return cudaErrorInvalidValue;  // It would be slow.
  *event = new CUevent_st();
  ++num_handles;
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  --num_handles;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  *event = {stream, stream == nullptr ? device_clock() : stream->num_queued};
  return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int) {
  if (event->stream != nullptr) {
    run_up_to(*event->stream, event->place);
  } else if (stream != nullptr) {
    stream->ready_for = event->place;
  }
  return cudaSuccess;
}

const char* cudaGetErrorString(cudaError_t) { return "an error of the double"; }

}  // extern "C"
