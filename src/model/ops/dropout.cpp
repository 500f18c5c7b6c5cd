// SPDX-License-Identifier: Apache-2.0
#include "model/ops/dropout.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "core/random.h"

namespace temper {
namespace {

// One call of the generator decides on so many elements, with 16 bits each.
constexpr int64_t kPerCall = 8;
constexpr int64_t kGrain = 1024;  // Calls that are worth a thread: arbitrary.

}  // namespace

at::Tensor Dropout::apply(const at::Tensor& x, uint64_t place) const {
  if (!is_active()) return x;
  const uint64_t key = random_word(seed_ ^ (place << 32), static_cast<uint64_t>(*number_));
  const auto threshold = static_cast<uint32_t>(std::lround(probability_ * 65536.0));
  const float kept = static_cast<float>(1.0 / (1.0 - probability_));
  const int64_t size = x.numel();
  const at::Tensor mask = at::empty(x.sizes(), at::TensorOptions(at::kFloat));
  float* const factors = mask.mutable_data_ptr<float>();
  at::parallel_for(0, (size + kPerCall - 1) / kPerCall, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t call = begin; call < end; ++call) {
      const auto index = static_cast<uint64_t>(call);
      const std::array<uint32_t, 4> words =
          philox(key, {static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32), 0, 0});
      const int64_t last = std::min(size, (call + 1) * kPerCall);
      for (int64_t i = call * kPerCall; i < last; ++i) {
        const auto lane = static_cast<uint64_t>(i - call * kPerCall);
        const uint32_t bits = (words[lane / 2] >> (16 * (lane % 2))) & 0xFFFFU;
        factors[i] = bits < threshold ? 0.0F : kept;
      }
    }
  });
  return x.mul(mask.to(x.device()));
}

}  // namespace temper
