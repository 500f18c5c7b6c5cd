// SPDX-License-Identifier: Apache-2.0
#include "model/on_device.h"

#include <ATen/ATen.h>

namespace temper {

// Pinned memory is not used again before the copy is over: LibTorch sees to it.
at::Tensor on_device(const std::vector<int64_t>& numbers, at::Device device) {
  const at::Tensor on_host = at::tensor(numbers, at::kLong);
  return device.is_cpu() ? on_host : on_host.pin_memory().to(device, /*non_blocking=*/true);
}

}  // namespace temper
