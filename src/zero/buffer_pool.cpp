// SPDX-License-Identifier: Apache-2.0
#include "zero/buffer_pool.h"

#include <ATen/ATen.h>

namespace temper {

at::Tensor BufferPool::take(int64_t num_elements) {
  std::vector<at::Tensor>& free = free_[num_elements];
  if (free.empty()) {
    return at::empty({num_elements}, at::TensorOptions().dtype(dtype_).device(device_));
  }
  at::Tensor buffer = std::move(free.back());
  free.pop_back();
  return buffer;
}

void BufferPool::put(at::Tensor buffer) {
  std::vector<at::Tensor>& free = free_[buffer.numel()];
  free.push_back(std::move(buffer));
}

}  // namespace temper
