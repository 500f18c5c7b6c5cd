// SPDX-License-Identifier: Apache-2.0
#include "zero/sum_over_ranks.h"

#include <ATen/ATen.h>

namespace temper {

void sum_over_ranks(std::span<int64_t> words, Communicator& ranks, at::Device device) {
  if (ranks.world_size() == 1) return;
  const auto on_host = at::from_blob(words.data(), {static_cast<int64_t>(words.size())}, at::kLong);
  const at::Tensor on_device = on_host.to(device);
  ranks.all_reduce(on_device, ReduceOp::kSum).wait();
  if (!device.is_cpu()) on_host.copy_(on_device);
}

}  // namespace temper
