// SPDX-License-Identifier: Apache-2.0
// Compiled without contraction into fused multiply-adds: see CMakeLists.txt.
#include "optim/move_towards.h"

#include <ATen/Parallel.h>
#include <ATen/ops/sub.h>

#include <stdexcept>

namespace temper {

void move_towards(const at::Tensor& numbers, const at::Tensor& goal, double share) {
  constexpr int64_t kGrain = 65536;  // So many elements are worth a thread: 512 KiB of two streams.
  for (const at::Tensor* tensor : {&numbers, &goal}) {
    if (!tensor->is_contiguous() || tensor->scalar_type() != at::kFloat) {
      throw std::invalid_argument("move_towards wants contiguous fp32 tensors");
    }
  }
  if (numbers.numel() != goal.numel() || numbers.device() != goal.device()) {
    throw std::invalid_argument("move_towards wants tensors of one size on one device");
  }
  if (!numbers.is_cpu()) {
    numbers.add_(goal.sub(numbers), share);
    return;
  }
  float* const x = numbers.mutable_data_ptr<float>();
  const float* const to = goal.const_data_ptr<float>();
  const auto factor = static_cast<float>(share);
  at::parallel_for(0, numbers.numel(), kGrain, [=](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) x[k] += factor * (to[k] - x[k]);
  });
}

}  // namespace temper
