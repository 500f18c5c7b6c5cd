// SPDX-License-Identifier: Apache-2.0
#include "comm/bytes.h"

#include <ATen/ops/from_blob.h>

namespace temper {
namespace {

at::Tensor to_tensor(std::span<const std::byte> bytes) {
  return at::from_blob(const_cast<std::byte*>(bytes.data()), {std::ssize(bytes)}, at::kByte);
}

}  // namespace

void gather_bytes(Communicator& ranks, std::span<const std::byte> own, std::span<std::byte> all) {
  const at::Tensor gathered = to_tensor(all).to(ranks.device());
  ranks.all_gather(to_tensor(own).to(ranks.device()), gathered).wait();
  if (!gathered.is_cpu()) to_tensor(all).copy_(gathered);
}

void gather_bytes_on_rank_0(Communicator& ranks, std::span<const std::byte> own,
                            std::span<std::byte> all) {
  const at::Tensor gathered = to_tensor(all).to(ranks.device());
  ranks.gather(to_tensor(own).to(ranks.device()), gathered, /*root=*/0).wait();
  if (ranks.rank() == 0 && !gathered.is_cpu()) to_tensor(all).copy_(gathered);
}

void broadcast_bytes(Communicator& ranks, std::span<std::byte> bytes) {
  const at::Tensor moved = to_tensor(bytes).to(ranks.device());
  ranks.broadcast(moved, 0).wait();
  if (!moved.is_cpu()) to_tensor(bytes).copy_(moved);
}

}  // namespace temper
