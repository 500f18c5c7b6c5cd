// SPDX-License-Identifier: Apache-2.0
#include "comm/nccl_communicator.h"

#include <ATen/DeviceAccelerator.h>
#include <ATen/ops/zeros.h>
#include <c10/core/DeviceGuard.h>

#include <exception>
#include <span>
#include <stdexcept>
#include <thread>
#include <vector>

#include "comm/bytes.h"
#include "core/concat.h"
#include "core/error.h"

namespace temper {
namespace {

void check(cudaError_t status, const char* call) {
  if (status == cudaSuccess) return;
  throw CommError(concat(call, " failed: ", cudaGetErrorString(status)),
                  "look for the first rank that failed, and at its card with nvidia-smi");
}

void check(ncclResult_t status, const char* call) {
  if (status == ncclSuccess) return;
  throw CommError(
      concat(call, " failed: ", ncclGetErrorString(status), " (", ncclGetLastError(nullptr), ")"),
      "set NCCL_DEBUG=WARN and look for the first rank that failed");
}

// Communicator lets no other dtype through to a reduction.
ncclDataType_t datatype_of(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kFloat: return ncclFloat32;
    case at::kDouble: return ncclFloat64;
    case at::kInt: return ncclInt32;
    case at::kLong: return ncclInt64;
    case at::kByte: return ncclUint8;
    default: throw std::logic_error("a dtype without an NCCL counterpart");
  }
}

ncclRedOp_t op_of(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum: return ncclSum;
    case ReduceOp::kMax: return ncclMax;
    case ReduceOp::kMin: return ncclMin;
  }
  throw std::logic_error("no such ReduceOp");
}

// The stream that the caller's work is queued on now.
cudaStream_t current_stream(at::Device device) {
  const c10::Stream stream = at::accelerator::getCurrentStream(device.index());
  return static_cast<cudaStream_t>(stream.native_handle());
}

size_t count_of(const at::Tensor& tensor) { return static_cast<size_t>(tensor.numel()); }

}  // namespace

NcclCommunicator::NcclCommunicator(Communicator& meeting, at::Device device)
    : device_(device), rank_(meeting.rank()), world_size_(meeting.world_size()) {
  const c10::DeviceGuard guard(device_);
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  stream_.reset(stream);
  ready_ = make_event();

  ncclUniqueId id;
  if (rank_ == 0) check(ncclGetUniqueId(&id), "ncclGetUniqueId");
  broadcast_bytes(meeting, std::as_writable_bytes(std::span(&id, 1)));
  check(ncclCommInitRank(&comm_, world_size_, id, rank_), "ncclCommInitRank");
}

NcclCommunicator::~NcclCommunicator() {
  // After a failure a peer may never join a queued collective; Destroy would wait for it for ever.
  if (std::uncaught_exceptions() > 0) {
    ncclCommAbort(comm_);
  } else {
    ncclCommDestroy(comm_);
  }
}

NcclCommunicator::Event NcclCommunicator::make_event() {
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreateWithFlags");
  return Event(event);
}

void NcclCommunicator::require_here(const at::Tensor& tensor) const {
  if (tensor.device() == device_) return;
  throw std::invalid_argument(concat("a tensor on ", tensor.device(), " for NCCL on ", device_));
}

void NcclCommunicator::require_healthy() const {
  ncclResult_t status = ncclSuccess;
  check(ncclCommGetAsyncError(comm_, &status), "ncclCommGetAsyncError");
  check(status, "a collective of NCCL");
}

Pending NcclCommunicator::submit(std::initializer_list<at::Tensor> tensors,
                                 const std::function<void()>& call) {
  for (const at::Tensor& tensor : tensors) require_here(tensor);
  const c10::DeviceGuard guard(device_);
  check(cudaEventRecord(ready_.get(), current_stream(device_)), "cudaEventRecord");
  check(cudaStreamWaitEvent(stream_.get(), ready_.get(), 0), "cudaStreamWaitEvent");
  call();
  const std::shared_ptr<CUevent_st> done = make_event();
  check(cudaEventRecord(done.get(), stream_.get()), "cudaEventRecord");
  return Pending([this, done, kept = std::vector(tensors)] {
    require_healthy();
    check(cudaStreamWaitEvent(current_stream(device_), done.get(), 0), "cudaStreamWaitEvent");
  });
}

Pending NcclCommunicator::do_all_reduce(at::Tensor tensor, ReduceOp op) {
  return submit({tensor}, [&] {
    check(ncclAllReduce(tensor.const_data_ptr(), tensor.mutable_data_ptr(), count_of(tensor),
                        datatype_of(tensor), op_of(op), comm_, stream_.get()),
          "ncclAllReduce");
  });
}

Pending NcclCommunicator::do_all_gather(const at::Tensor& shard, at::Tensor full) {
  return submit({shard, full}, [&] {
    check(ncclAllGather(shard.const_data_ptr(), full.mutable_data_ptr(), shard.nbytes(), ncclUint8,
                        comm_, stream_.get()),
          "ncclAllGather");
  });
}

Pending NcclCommunicator::do_gather(const at::Tensor& shard, at::Tensor full, int root) {
  const bool is_root = rank_ == root;
  return submit({shard, is_root ? full : shard}, [&] {
    check(ncclGroupStart(), "ncclGroupStart");
    check(ncclSend(shard.const_data_ptr(), shard.nbytes(), ncclUint8, root, comm_, stream_.get()),
          "ncclSend");
    for (int peer = 0; is_root && peer < world_size_; ++peer) {
      auto* to = static_cast<std::byte*>(full.mutable_data_ptr()) +
                 static_cast<size_t>(peer) * shard.nbytes();
      check(ncclRecv(to, shard.nbytes(), ncclUint8, peer, comm_, stream_.get()), "ncclRecv");
    }
    check(ncclGroupEnd(), "ncclGroupEnd");
  });
}

Pending NcclCommunicator::do_all_to_all(const at::Tensor& send, at::Tensor receive) {
  return submit({send, receive}, [&] {
    const size_t block = send.nbytes() / static_cast<size_t>(world_size_);
    const auto* from = static_cast<const std::byte*>(send.const_data_ptr());
    auto* to = static_cast<std::byte*>(receive.mutable_data_ptr());
    check(ncclGroupStart(), "ncclGroupStart");
    for (int peer = 0; peer < world_size_; ++peer, from += block, to += block) {
      check(ncclSend(from, block, ncclUint8, peer, comm_, stream_.get()), "ncclSend");
      check(ncclRecv(to, block, ncclUint8, peer, comm_, stream_.get()), "ncclRecv");
    }
    check(ncclGroupEnd(), "ncclGroupEnd");
  });
}

Pending NcclCommunicator::do_broadcast(at::Tensor tensor, int root) {
  return submit({tensor}, [&] {
    check(ncclBroadcast(tensor.const_data_ptr(), tensor.mutable_data_ptr(), tensor.nbytes(),
                        ncclUint8, root, comm_, stream_.get()),
          "ncclBroadcast");
  });
}

void NcclCommunicator::do_barrier() {
  const at::Tensor token = at::zeros({1}, at::TensorOptions(device_).dtype(at::kInt));
  const Pending reduced = do_all_reduce(token, ReduceOp::kSum);
  // A plain synchronize would not see that a peer is lost.
  while (cudaStreamQuery(stream_.get()) == cudaErrorNotReady) {
    require_healthy();
    std::this_thread::yield();
  }
}

}  // namespace temper
