// SPDX-License-Identifier: Apache-2.0
#include "zero/buffer_pool.h"

#include <ATen/ATen.h>

namespace temper {

at::Tensor BufferPool::take(int64_t num_elements, at::ScalarType dtype) {
  constexpr int64_t kSlackShare = 8;  // A buffer may be larger than asked by one eighth.
  const auto smallest = free_.lower_bound({dtype, num_elements});
  if (smallest == free_.end() || smallest->first.first != dtype ||
      smallest->first.second > num_elements + num_elements / kSlackShare) {
    at::Tensor buffer = at::empty({num_elements}, at::TensorOptions().dtype(dtype).device(device_));
    owned_bytes_ += static_cast<int64_t>(buffer.nbytes());
    return buffer;
  }
  const at::Tensor buffer = std::move(smallest->second);
  free_.erase(smallest);
  return buffer.narrow(0, 0, num_elements);
}

void BufferPool::put(at::Tensor buffer) {
  const auto capacity =
      static_cast<int64_t>(buffer.storage().nbytes()) / static_cast<int64_t>(buffer.element_size());
  free_.emplace(Kind{buffer.scalar_type(), capacity}, buffer.as_strided({capacity}, {1}, 0));
}

}  // namespace temper
