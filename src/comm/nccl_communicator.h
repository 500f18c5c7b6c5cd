// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime.h>
#include <nccl.h>

#include <functional>
#include <memory>

#include "comm/communicator.h"

namespace temper {

/// Collectives over NCCL, on a stream of its own beside the caller's computation.
///
/// Tensors lie on `device()`.
/// Stream: a call starts after the work that is queued on the caller's current stream;
///   `Pending::wait()` orders the caller's later work after it and lets the host go on.
class NcclCommunicator final : public Communicator {
 public:
  /// `meeting` has the same ranks and spreads NCCL's id; it may go afterwards.
  /// Collective: over `meeting`.
  /// Throws: CommError.
  NcclCommunicator(Communicator& meeting, at::Device device);
  /// Collective; while an exception is in flight, aborts what a peer may never join.
  ~NcclCommunicator() override;

  int rank() const override { return rank_; }
  int world_size() const override { return world_size_; }
  at::Device device() const override { return device_; }

 private:
  struct DestroyStream {
    void operator()(cudaStream_t stream) const { cudaStreamDestroy(stream); }
  };
  struct DestroyEvent {
    void operator()(cudaEvent_t event) const { cudaEventDestroy(event); }
  };
  using Stream = std::unique_ptr<CUstream_st, DestroyStream>;
  using Event = std::unique_ptr<CUevent_st, DestroyEvent>;

  Pending do_all_reduce(at::Tensor tensor, ReduceOp op) override;
  Pending do_all_gather(const at::Tensor& shard, at::Tensor full) override;
  Pending do_gather(const at::Tensor& shard, at::Tensor full, int root) override;
  Pending do_all_to_all(const at::Tensor& send, at::Tensor receive) override;
  Pending do_broadcast(at::Tensor tensor, int root) override;
  void do_barrier() override;

  static Event make_event();

  // Queues `call` on our stream; its tensors stay alive until the result is waited for.
  Pending submit(std::initializer_list<at::Tensor> tensors, const std::function<void()>& call);
  void require_here(const at::Tensor& tensor) const;
  void require_healthy() const;

  at::Device device_;
  int rank_;
  int world_size_;
  Stream stream_;
  Event ready_;
  ncclComm_t comm_ = nullptr;
};

}  // namespace temper
