// SPDX-License-Identifier: Apache-2.0
// Compiled without contraction into fused multiply-adds: see CMakeLists.txt.
#include "model/quantised/quantised_absmax.h"

#include <ATen/Parallel.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/mean.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "model/ops/one_thread.h"
#include "model/quantised/dynamic_map.h"

namespace temper {
namespace {

constexpr int64_t kGrain = 32768;

float mean(std::span<const float> numbers) {
  const OneThread guard;
  // Only read.
  return at::from_blob(const_cast<float*>(numbers.data()), {std::ssize(numbers)}, at::kFloat)
      .mean()
      .item<float>();
}

const std::array<float, 255>& midpoints() {
  static const std::array<float, 255> all = [] {
    std::array<float, 255> made{};
    const auto& values = dynamic_map(MapSign::kSigned);
    for (size_t i = 0; i < made.size(); ++i) made[i] = 0.5F * (values[i] + values[i + 1]);
    return made;
  }();
  return all;
}

// For x in [-1, 1].
uint8_t nearest_code(float x) {
  constexpr float kLast = 65535.0F;
  const auto place = static_cast<int32_t>((x + 1.0F) * 0.5F * kLast + 0.5F);
  const float rounded = -1.0F + 2.0F * static_cast<float>(place) / kLast;
  const auto& all = midpoints();
  return static_cast<uint8_t>(std::lower_bound(all.begin(), all.end(), rounded) - all.begin());
}

// Returns the block's absmax.
float quantise_block(std::span<const float> absmax, float offset, uint8_t* codes) {
  float largest = 0.0F;
  for (const float x : absmax) largest = std::max(largest, std::abs(x - offset));
  if (largest == 0.0F) {
    std::fill_n(codes, absmax.size(), uint8_t{0});
    return largest;
  }
  const float inverse = 1.0F / largest;
  for (size_t i = 0; i < absmax.size(); ++i) {
    const float scaled = (absmax[i] - offset) * inverse;
    // 0 / 0 where the largest is denormal.
    codes[i] = std::isnan(scaled) ? uint8_t{0} : nearest_code(std::clamp(scaled, -1.0F, 1.0F));
  }
  return largest;
}

}  // namespace

QuantisedAbsmax quantise_absmax(std::span<const float> absmax) {
  if (absmax.empty()) throw std::invalid_argument("quantise_absmax wants at least one block");
  constexpr size_t kSize = QuantisedAbsmax::kBlockSize;
  QuantisedAbsmax result;
  result.offset = mean(absmax);
  result.codes.resize(absmax.size());
  result.absmax.resize((absmax.size() + kSize - 1) / kSize);
  at::parallel_for(0, std::ssize(result.absmax), kGrain / QuantisedAbsmax::kBlockSize,
                   [&](int64_t begin, int64_t end) {
                     for (auto block = size_t(begin); block < size_t(end); ++block) {
                       const size_t first = block * kSize;
                       const size_t size = std::min(kSize, absmax.size() - first);
                       result.absmax[block] = quantise_block(
                           absmax.subspan(first, size), result.offset, result.codes.data() + first);
                     }
                   });
  return result;
}

void dequantise_absmax(const QuantisedAbsmax& quantised, std::span<float> out) {
  constexpr int64_t kSize = QuantisedAbsmax::kBlockSize;
  const int64_t size = std::ssize(quantised.codes);
  if (std::ssize(out) != size || std::ssize(quantised.absmax) != (size + kSize - 1) / kSize) {
    throw std::invalid_argument("dequantise_absmax wants room for exactly what there is");
  }
  const float* const values = dynamic_map(MapSign::kSigned).data();
  at::parallel_for(0, size, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float difference =
          values[quantised.codes[size_t(i)]] * quantised.absmax[size_t(i / kSize)];
      out[size_t(i)] = difference + quantised.offset;
    }
  });
}

}  // namespace temper
