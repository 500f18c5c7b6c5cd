// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "core/chunk.h"
#include "core/kernel.h"

namespace temper {

/// Rotates the pairs of query and key heads where they lie. A thread takes as many pairs as a chunk
/// has numbers, a block the pairs of one row.
/// Shapes: qkv [num_rows, columns]; cosines, sines [num_rows, num_pairs].
/// Registers: at most 40, occupancy 0.75.
template <typename T>
struct RotaryKernel {
  static constexpr int kNumThreads = 128;
  static constexpr int kNumPhases = 1;
  struct Shared {};
  static constexpr uint32_t kPairs = Chunk<T>::kSize;  // Of a thread.

  T* qkv;
  const float* cosines;
  const float* sines;
  uint32_t num_rows, columns;
  uint32_t num_heads;  ///< Those of queries and of keys.
  uint32_t head_dim, num_pairs;
  bool is_halves;  ///< Whether number i is paired with number i + num_pairs, or with its neighbour.

  TEMPER_HOST_DEVICE uint32_t threads_per_head() const { return (num_pairs + kPairs - 1) / kPairs; }
  TEMPER_HOST_DEVICE uint32_t blocks_per_row() const {
    return (num_heads * threads_per_head() + kNumThreads - 1) / kNumThreads;
  }
  int64_t num_blocks() const { return int64_t{num_rows} * blocks_per_row(); }

  TEMPER_HOST_DEVICE void run(int /*phase*/, GridPlace place, Shared& /*shared*/) const {
    const uint32_t row = place.block / blocks_per_row();
    const uint32_t item = place.block % blocks_per_row() * kNumThreads + place.thread;
    const uint32_t head = item / threads_per_head();
    if (head >= num_heads) return;
    const uint32_t first = item % threads_per_head() * kPairs, count = num_pairs - first;
    const int64_t angle = int64_t{row} * num_pairs + first;
    T* const numbers = qkv + int64_t{row} * columns + int64_t{head} * head_dim;
    if (is_halves) {
      rotate_halves(numbers + first, angle, count);
    } else {
      rotate_neighbours(numbers + 2 * first, angle, count);
    }
  }

 private:
  TEMPER_HOST_DEVICE void rotate_halves(T* numbers, int64_t angle, uint32_t count) const {
    auto a = Chunk<T>::read(numbers, count), b = Chunk<T>::read(numbers + num_pairs, count);
    for (uint32_t i = 0; i < kPairs; ++i) {
      if (i < count) rotate(a.numbers[i], b.numbers[i], angle + i);
    }
    a.write(numbers, count);
    b.write(numbers + num_pairs, count);
  }

  TEMPER_HOST_DEVICE void rotate_neighbours(T* numbers, int64_t angle, uint32_t count) const {
    for (uint32_t half = 0; half < 2; ++half) {
      const uint32_t first = half * kPairs / 2;
      if (first >= count) return;
      T* const own = numbers + 2 * first;
      auto both = Chunk<T>::read(own, 2 * (count - first));
      for (uint32_t i = 0; i < kPairs / 2; ++i) {
        if (first + i >= count) break;
        rotate(both.numbers[2 * i], both.numbers[2 * i + 1], angle + first + i);
      }
      both.write(own, 2 * (count - first));
    }
  }

  TEMPER_HOST_DEVICE void rotate(float& a, float& b, int64_t angle) const {
    const float c = cosines[angle], s = sines[angle];
    const float turned = a * c - b * s;
    b = b * c + a * s;
    a = turned;
  }
};

}  // namespace temper
