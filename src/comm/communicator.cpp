// SPDX-License-Identifier: Apache-2.0
#include "comm/communicator.h"

#include <exception>
#include <memory>
#include <stdexcept>
#include <string>

#include "comm/collective_ring.h"
#include "core/clock.h"
#include "core/concat.h"
#include "core/phase_log.h"

namespace temper {
namespace {

[[noreturn]] void refuse(const char* verb, const std::string& problem) {
  throw std::invalid_argument(concat(verb, ": ", problem));
}

void require_contiguous(const char* verb, const at::Tensor& tensor) {
  if (!tensor.defined()) refuse(verb, "a tensor is undefined");
  if (!tensor.is_contiguous()) refuse(verb, "a tensor is not contiguous");
}

void require_reducible(const char* verb, const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kFloat:
    case at::kDouble:
    case at::kInt:
    case at::kLong:
    case at::kByte: return;
    default: refuse(verb, concat("cannot reduce ", tensor.scalar_type(), "; convert to fp32"));
  }
}

void require_alike(const char* verb, const at::Tensor& a, const at::Tensor& b) {
  require_contiguous(verb, a);
  require_contiguous(verb, b);
  if (a.scalar_type() != b.scalar_type()) {
    refuse(verb, concat("dtypes differ: ", a.scalar_type(), " and ", b.scalar_type()));
  }
  if (a.device() != b.device()) {
    refuse(verb, concat("devices differ: ", a.device(), " and ", b.device()));
  }
}

bool overlap(const at::Tensor& a, const at::Tensor& b) {
  const auto* a_begin = static_cast<const char*>(a.const_data_ptr());
  const auto* b_begin = static_cast<const char*>(b.const_data_ptr());
  return a_begin < b_begin + b.nbytes() && b_begin < a_begin + a.nbytes();
}

// `full` has one block of the shard's size per rank, and they overlap nowhere but in block `rank`.
void require_blocks(const char* verb, const at::Tensor& full, const at::Tensor& shard, int rank,
                    int world_size) {
  require_alike(verb, full, shard);
  if (full.numel() != shard.numel() * world_size) {
    refuse(verb, concat("full has ", full.numel(), " elements, wanted ", world_size,
                        " ranks times ", shard.numel()));
  }
  const auto* block =
      static_cast<const char*>(full.const_data_ptr()) + static_cast<size_t>(rank) * shard.nbytes();
  if (overlap(full, shard) && shard.const_data_ptr() != block) {
    refuse(verb, concat("shard overlaps full elsewhere than in block ", rank));
  }
}

void require_root(const char* verb, int root, int world_size) {
  if (root >= 0 && root < world_size) return;
  refuse(verb, concat("root ", root, " is none of ", world_size, " ranks"));
}

// The result of a gather or an exchange in a group of one.
Pending copy_alone(const at::Tensor& from, at::Tensor to) {
  if (from.const_data_ptr() != to.const_data_ptr()) to.view(-1).copy_(from.view(-1));
  return Pending();
}

int64_t bytes_of(const at::Tensor& tensor) { return static_cast<int64_t>(tensor.nbytes()); }

// Starts a collective and keeps it in the ring until somebody has waited for it. `num_sent`: bytes
// that this rank sends to others.
template <typename Start>
Pending recorded(const char* verb, const at::Tensor& tensor, int64_t num_sent, const Start& start) {
  const int64_t number = CollectiveRing::own().begin(verb, bytes_of(tensor));
  CollectiveRing::own().add_sent(num_sent);
  auto pending = std::make_shared<Pending>(start());
  return Pending([pending, number] {
    const Phase phase("exchange");
    const Stopwatch watch;
    pending->wait();
    CollectiveRing::own().end(number);
    CollectiveRing::own().add_waiting(watch.seconds());
  });
}

}  // namespace

Pending& Pending::operator=(Pending&& other) noexcept {
  if (this != &other) {
    finish_silently();
    finish_ = std::exchange(other.finish_, nullptr);
  }
  return *this;
}

Pending::~Pending() { finish_silently(); }

void Pending::wait() {
  if (const auto finish = std::exchange(finish_, nullptr)) finish();
}

void Pending::finish_silently() noexcept {
  if (std::uncaught_exceptions() > 0) return;
  try {
    wait();
  } catch (const std::exception&) {
    // Stated in the header; a destructor cannot throw.
  }
}

// Of what is counted as sent, the library chooses the way in all_reduce and broadcast; as many
// bytes as the best one needs are taken there.
Pending Communicator::all_reduce(at::Tensor tensor, ReduceOp op) {
  require_contiguous("all_reduce", tensor);
  require_reducible("all_reduce", tensor);
  if (tensor.numel() == 0 || world_size() == 1) return Pending();
  const int64_t num_sent = 2 * bytes_of(tensor) / world_size() * (world_size() - 1);
  return recorded("all_reduce", tensor, num_sent, [&] { return do_all_reduce(tensor, op); });
}

Pending Communicator::all_gather(const at::Tensor& shard, at::Tensor full) {
  require_blocks("all_gather", full, shard, rank(), world_size());
  if (full.numel() == 0) return Pending();
  if (world_size() == 1) return copy_alone(shard, std::move(full));
  return recorded("all_gather", full, bytes_of(shard) * (world_size() - 1),
                  [&] { return do_all_gather(shard, full); });
}

Pending Communicator::gather(const at::Tensor& shard, at::Tensor full, int root) {
  require_contiguous("gather", shard);
  require_root("gather", root, world_size());
  const bool is_root = rank() == root;
  if (is_root) require_blocks("gather", full, shard, root, world_size());
  if (shard.numel() == 0) return Pending();
  if (world_size() == 1) return copy_alone(shard, std::move(full));
  return recorded("gather", shard, is_root ? 0 : bytes_of(shard),
                  [&] { return do_gather(shard, full, root); });
}

Pending Communicator::all_to_all(const at::Tensor& send, at::Tensor receive) {
  require_alike("all_to_all", send, receive);
  if (send.numel() != receive.numel() || send.numel() % world_size() != 0) {
    refuse("all_to_all", concat("cannot exchange ", send.numel(), " elements for ", receive.numel(),
                                " among ", world_size(), " ranks"));
  }
  if (overlap(send, receive)) refuse("all_to_all", "send and receive overlap");
  if (send.numel() == 0) return Pending();
  if (world_size() == 1) return copy_alone(send, std::move(receive));
  return recorded("all_to_all", send, bytes_of(send) / world_size() * (world_size() - 1),
                  [&] { return do_all_to_all(send, receive); });
}

Pending Communicator::broadcast(at::Tensor tensor, int root) {
  require_contiguous("broadcast", tensor);
  require_root("broadcast", root, world_size());
  if (tensor.numel() == 0 || world_size() == 1) return Pending();
  return recorded("broadcast", tensor, bytes_of(tensor),
                  [&] { return do_broadcast(tensor, root); });
}

void Communicator::barrier() {
  if (world_size() == 1) return;
  const int64_t number = CollectiveRing::own().begin("barrier", 0);
  const Phase phase("exchange");
  const Stopwatch watch;
  do_barrier();
  CollectiveRing::own().end(number);
  CollectiveRing::own().add_waiting(watch.seconds());
}

}  // namespace temper
