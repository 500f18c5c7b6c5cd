// SPDX-License-Identifier: Apache-2.0
#include "comm/mpi_communicator.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <utility>

#include "comm/mpi_check.h"

namespace temper {
namespace {

using Requests = std::vector<MPI_Request>;

// Communicator lets no other dtype through to a reduction.
MPI_Datatype datatype_of(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kFloat: return MPI_FLOAT;
    case at::kDouble: return MPI_DOUBLE;
    case at::kInt: return MPI_INT32_T;
    case at::kLong: return MPI_INT64_T;
    case at::kByte: return MPI_UINT8_T;
    default: throw std::logic_error("a dtype without an MPI counterpart");
  }
}

MPI_Op op_of(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum: return MPI_SUM;
    case ReduceOp::kMax: return MPI_MAX;
    case ReduceOp::kMin: return MPI_MIN;
  }
  throw std::logic_error("no such ReduceOp");
}

MPI_Request& next(Requests& requests) { return requests.emplace_back(MPI_REQUEST_NULL); }

// Calls `make(first, count)` for consecutive pieces of `size` of at most `max_piece`.
template <typename Make>
void for_each_piece(int64_t size, int64_t max_piece, const Make& make) {
  for (int64_t first = 0; first < size; first += max_piece) {
    make(first, static_cast<int>(std::min(max_piece, size - first)));
  }
}

std::byte* data_of(const at::Tensor& tensor) {
  return static_cast<std::byte*>(tensor.mutable_data_ptr());
}

int64_t size_in_bytes(const at::Tensor& tensor) { return static_cast<int64_t>(tensor.nbytes()); }

// Messages between pairs of ranks. Those of one pair arrive in the order in which they were sent.
struct Group {
  MPI_Comm comm;
  int rank;
  int world_size;
  int64_t max_message_bytes;

  void send(const std::byte* from, int64_t size_bytes, int to, Requests& requests) const {
    for_each_piece(size_bytes, max_message_bytes, [&](int64_t first, int count) {
      check(MPI_Isend(from + first, count, MPI_BYTE, to, 0, comm, &next(requests)), "MPI_Isend");
    });
  }

  void receive(std::byte* to, int64_t size_bytes, int from, Requests& requests) const {
    for_each_piece(size_bytes, max_message_bytes, [&](int64_t first, int count) {
      check(MPI_Irecv(to + first, count, MPI_BYTE, from, 0, comm, &next(requests)), "MPI_Irecv");
    });
  }

  // Block r of `to`, on this rank, comes from rank r, and block `rank` from `ours`.
  void collect(const std::byte* ours, std::byte* to, int64_t block_bytes,
               Requests& requests) const {
    for (int k = 1; k < world_size; ++k) {
      const int peer = (rank + k) % world_size;
      receive(to + peer * block_bytes, block_bytes, peer, requests);
    }
    keep(ours, to + rank * block_bytes, block_bytes);
  }

  // Block r of `to` comes from rank r, to which `from(r)` goes.
  template <typename From>
  void exchange(const From& from, std::byte* to, int64_t block_bytes, Requests& requests) const {
    for (int k = 1; k < world_size; ++k) {
      const int peer = (rank + world_size - k) % world_size;
      receive(to + peer * block_bytes, block_bytes, peer, requests);
    }
    for (int k = 1; k < world_size; ++k) {
      const int peer = (rank + k) % world_size;
      send(from(peer), block_bytes, peer, requests);
    }
    keep(from(rank), to + rank * block_bytes, block_bytes);
  }

  static void keep(const std::byte* from, std::byte* to, int64_t size_bytes) {
    if (from != to) std::memcpy(to, from, static_cast<size_t>(size_bytes));
  }
};

// Runs `call` on a tensor of the host, and copies what it leaves there to the device in `wait()`.
template <typename Call>
Pending staged(at::Tensor output, const at::Tensor& host, const Call& call) {
  auto pending = std::make_shared<Pending>(call(host));
  return Pending([pending, host, output] {
    pending->wait();
    output.copy_(host);
  });
}

at::Tensor room_for(const at::Tensor& output) {
  return at::empty(output.sizes(), output.options().device(at::kCPU));
}

}  // namespace

MpiCommunicator::MpiCommunicator(MPI_Comm parent, at::Device device, int64_t max_message_bytes)
    : device_(device), max_message_bytes_(max_message_bytes) {
  const auto duplicate = [&](Requests&) {
    check(MPI_Comm_dup(parent, &comm_), "MPI_Comm_dup");
    // MPI's default handler ends the job before any return code can be checked.
    check(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    check(MPI_Comm_rank(comm_, &rank_), "MPI_Comm_rank");
    check(MPI_Comm_size(comm_, &world_size_), "MPI_Comm_size");
  };
  worker_->submit("MPI_Comm_dup", duplicate).wait();
}

MpiCommunicator::~MpiCommunicator() {
  if (std::uncaught_exceptions() > 0) return;  // A peer may never come: leave all as it is.
  const auto free = [comm = comm_](Requests&) mutable { MPI_Comm_free(&comm); };
  const Pending freed = worker_->submit("MPI_Comm_free", free);
}

Pending MpiCommunicator::do_all_reduce(at::Tensor tensor, ReduceOp op) {
  if (!tensor.is_cpu()) {
    const auto reduce = [&](const at::Tensor& host) { return do_all_reduce(host, op); };
    return staged(tensor, tensor.cpu(), reduce);
  }
  const int64_t max_piece = max_message_bytes_ / tensor.element_size();
  return worker_->submit("MPI_Iallreduce", [=, comm = comm_](Requests& requests) {
    for_each_piece(tensor.numel(), max_piece, [&](int64_t first, int count) {
      check(MPI_Iallreduce(MPI_IN_PLACE, data_of(tensor) + first * tensor.element_size(), count,
                           datatype_of(tensor), op_of(op), comm, &next(requests)),
            "MPI_Iallreduce");
    });
  });
}

Pending MpiCommunicator::do_all_gather(const at::Tensor& shard, at::Tensor full) {
  if (!full.is_cpu()) {
    const auto gather = [&](const at::Tensor& host) { return do_all_gather(shard.cpu(), host); };
    return staged(full, room_for(full), gather);
  }
  const Group group{comm_, rank_, world_size_, max_message_bytes_};
  return worker_->submit("all_gather", [=](Requests& requests) {
    const auto ours = [&](int) { return data_of(shard); };
    group.exchange(ours, data_of(full), size_in_bytes(shard), requests);
  });
}

Pending MpiCommunicator::do_gather(const at::Tensor& shard, at::Tensor full, int root) {
  if (!shard.is_cpu()) {
    const at::Tensor host_shard = shard.cpu();
    if (rank_ != root) return do_gather(host_shard, full, root);
    const auto gather = [&](const at::Tensor& host) { return do_gather(host_shard, host, root); };
    return staged(full, room_for(full), gather);
  }
  const Group group{comm_, rank_, world_size_, max_message_bytes_};
  return worker_->submit("gather", [=](Requests& requests) {
    const int64_t block_bytes = size_in_bytes(shard);
    if (group.rank == root) {
      group.collect(data_of(shard), data_of(full), block_bytes, requests);
    } else {
      group.send(data_of(shard), block_bytes, root, requests);
    }
  });
}

Pending MpiCommunicator::do_all_to_all(const at::Tensor& send, at::Tensor receive) {
  if (!receive.is_cpu()) {
    const auto exchange = [&](const at::Tensor& host) { return do_all_to_all(send.cpu(), host); };
    return staged(receive, room_for(receive), exchange);
  }
  const Group group{comm_, rank_, world_size_, max_message_bytes_};
  return worker_->submit("all_to_all", [=](Requests& requests) {
    const int64_t block_bytes = size_in_bytes(send) / group.world_size;
    const auto block = [&](int rank) { return data_of(send) + rank * block_bytes; };
    group.exchange(block, data_of(receive), block_bytes, requests);
  });
}

Pending MpiCommunicator::do_broadcast(at::Tensor tensor, int root) {
  if (!tensor.is_cpu()) {
    const auto spread = [&](const at::Tensor& host) { return do_broadcast(host, root); };
    return staged(tensor, tensor.cpu(), spread);
  }
  return worker_->submit(
      "MPI_Ibcast", [=, max_piece = max_message_bytes_, comm = comm_](Requests& requests) {
        for_each_piece(size_in_bytes(tensor), max_piece, [&](int64_t first, int count) {
          check(MPI_Ibcast(data_of(tensor) + first, count, MPI_BYTE, root, comm, &next(requests)),
                "MPI_Ibcast");
        });
      });
}

void MpiCommunicator::do_barrier() {
  const auto barrier = [comm = comm_](Requests& requests) {
    check(MPI_Ibarrier(comm, &next(requests)), "MPI_Ibarrier");
  };
  worker_->submit("MPI_Ibarrier", barrier).wait();
}

}  // namespace temper
