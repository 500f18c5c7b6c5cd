// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "core/chunk.h"
#include "core/kernel.h"

namespace temper {

/// sum = ((sum + block 0) + block 1) + …, element by element in fp32; without the sum before where
/// it `is_fresh`. Shapes: blocks [num_blocks_in * size], sum [size].
/// Registers: at most 32, occupancy 1.00.
template <typename T>
struct FoldKernel {
  static constexpr int kNumThreads = 256;
  static constexpr int kNumPhases = 1;
  struct Shared {};

  const T* blocks;
  float* sum;
  int64_t num_addends, size;
  bool is_fresh;

  int64_t num_blocks() const {
    return num_blocks_for(size, int64_t{kNumThreads} * Chunk<T>::kSize);
  }

  TEMPER_HOST_DEVICE void run(int /*phase*/, GridPlace place, Shared& /*shared*/) const {
    const int64_t first =
        (int64_t{place.block} * kNumThreads + place.thread) * int64_t{Chunk<T>::kSize};
    if (first >= size) return;
    const int64_t count = size - first;
    auto total = Chunk<T>::read(blocks + first, count);
    if (!is_fresh) {
      for (int i = 0; i < Chunk<T>::kSize; ++i) {
        if (i < count) total.numbers[i] = sum[first + i] + total.numbers[i];
      }
    }
    for (int64_t k = 1; k < num_addends; ++k) {
      const auto addend = Chunk<T>::read(blocks + k * size + first, count);
      for (int i = 0; i < Chunk<T>::kSize; ++i) total.numbers[i] += addend.numbers[i];
    }
    for (int i = 0; i < Chunk<T>::kSize; ++i) {
      if (i < count) sum[first + i] = total.numbers[i];
    }
  }
};

}  // namespace temper
