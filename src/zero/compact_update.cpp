// SPDX-License-Identifier: Apache-2.0
#include "zero/compact_update.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <span>

namespace temper {
namespace {

// Elements whose moments are fp32 at a time, on each thread: a multiple of a block.
constexpr int64_t kChunk = 4096;

}  // namespace

void update_compactly(const CompactMoments& moments, Range elements, at::Tensor parameters,
                      const at::Tensor& gradients, const AdamWRule& rule) {
  float* const all_parameters = parameters.mutable_data_ptr<float>();
  const float* const all_gradients = gradients.const_data_ptr<float>();
  const auto step = static_cast<uint32_t>(rule.step.step);
  const Rounding first_rounding{moments.key, {step, 0}}, second_rounding{moments.key, {step, 1}};
  const auto update_chunk = [&](Range chunk) {
    std::array<float, kChunk> first_moment, second_moment;
    const auto size = static_cast<size_t>(chunk.size());
    const std::span first = std::span(first_moment).first(size);
    const std::span second = std::span(second_moment).first(size);
    moments.first.read(chunk, first);
    moments.second.read(chunk, second);
    const int64_t begin = chunk.begin - elements.begin;
    adamw_update({all_parameters + begin, all_gradients + begin, first.data(), second.data()},
                 chunk.size(), rule.options, rule.step);
    moments.first.write(chunk, first, &first_rounding);
    moments.second.write(chunk, second, &second_rounding);
  };
  const int64_t first_chunk = elements.begin / kChunk;
  const int64_t last_chunk = (elements.end + kChunk - 1) / kChunk;
  at::parallel_for(first_chunk, last_chunk, /*grain_size=*/4, [&](int64_t begin, int64_t end) {
    for (int64_t chunk = begin; chunk < end; ++chunk) {
      update_chunk(intersection({chunk * kChunk, (chunk + 1) * kChunk}, elements));
    }
  });
}

}  // namespace temper
