// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "core/chunk.h"
#include "core/kernel.h"
#include "core/philox.h"

namespace temper {

/// What decides which elements are dropped: 16 bits of the generator for each, below `threshold`.
struct DropoutDraw {
  static constexpr int kPerCall = 8;  ///< One call of the generator decides on so many elements.

  uint64_t key;
  uint32_t threshold;
  float kept;  ///< What the others are multiplied with.
};

/// to = factors x + keep * to. A thread takes the elements of one call of the generator.
/// Shapes: x, to [size].
/// Registers: at most 32, occupancy 1.00.
template <typename T>
struct DropoutKernel {
  static constexpr int kNumThreads = 256;
  static constexpr int kNumPhases = 1;
  struct Shared {};

  const T* x;
  T* to;
  int64_t size;
  float keep;
  DropoutDraw draw;

  int64_t num_blocks() const {
    return num_blocks_for(size, int64_t{kNumThreads} * DropoutDraw::kPerCall);
  }

  TEMPER_HOST_DEVICE void run(int /*phase*/, GridPlace place, Shared& /*shared*/) const {
    const uint64_t call = uint64_t{place.block} * kNumThreads + place.thread;
    uint32_t words[4][1] = {{static_cast<uint32_t>(call)}, {static_cast<uint32_t>(call >> 32)}};
    philox_mix(draw.key, words);
    for (int begin = 0; begin < DropoutDraw::kPerCall; begin += Chunk<T>::kSize) {
      const int64_t first = static_cast<int64_t>(call) * DropoutDraw::kPerCall + begin;
      if (first >= size) return;
      auto chunk = Chunk<T>::read(x + first, size - first);
      const auto before = keep == 0.0F ? Chunk<T>{} : Chunk<T>::read(to + first, size - first);
      for (int i = 0; i < Chunk<T>::kSize; ++i) {
        const uint32_t bits = words[(begin + i) / 2][0] >> (16 * (i % 2)) & 0xFFFF;
        const float factor = bits < draw.threshold ? 0.0F : draw.kept;
        chunk.numbers[i] = factor * chunk.numbers[i] + keep * before.numbers[i];
      }
      chunk.write(to + first, size - first);
    }
  }
};

}  // namespace temper
