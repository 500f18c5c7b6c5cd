// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <mpi.h>

#include <memory>

#include "comm/communicator.h"
#include "comm/mpi_worker.h"

namespace temper {

/// Collectives over MPI, made by the process's MpiWorker, beside the caller.
///
/// Device tensors are copied to the host and back; a call then waits for that copy. They are what
/// is asked for where `device()` is an accelerator that NCCL does not know.
class MpiCommunicator final : public Communicator {
 public:
  /// Longer messages are cut, since MPI 3 counts are int.
  static constexpr int64_t kMaxMessageBytes = int64_t{1} << 30;

  /// Duplicates `parent`, so that no message of ours can meet one of a library's.
  /// Collective: over `parent`, as is the destructor.
  /// Throws: CommError.
  explicit MpiCommunicator(MPI_Comm parent, at::Device device = at::kCPU,
                           int64_t max_message_bytes = kMaxMessageBytes);
  ~MpiCommunicator() override;

  int rank() const override { return rank_; }
  int world_size() const override { return world_size_; }
  at::Device device() const override { return device_; }

 private:
  Pending do_all_reduce(at::Tensor tensor, ReduceOp op) override;
  Pending do_all_gather(const at::Tensor& shard, at::Tensor full) override;
  Pending do_gather(const at::Tensor& shard, at::Tensor full, int root) override;
  Pending do_all_to_all(const at::Tensor& send, at::Tensor receive) override;
  Pending do_broadcast(at::Tensor tensor, int root) override;
  void do_barrier() override;

  std::shared_ptr<MpiWorker> worker_ = MpiWorker::shared();
  at::Device device_;
  MPI_Comm comm_ = MPI_COMM_NULL;
  int rank_ = 0;
  int world_size_ = 1;
  int64_t max_message_bytes_;
};

}  // namespace temper
