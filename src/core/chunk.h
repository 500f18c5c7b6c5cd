// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstdint>

#include "core/floats.h"
#include "core/kernel.h"

namespace temper {

/// A bfloat16 for kernels, which know no library's.
struct Bf16 {
  uint16_t bits;
};

TEMPER_HOST_DEVICE inline float to_float(float number) { return number; }
TEMPER_HOST_DEVICE inline float to_float(Bf16 number) { return from_bf16(number.bits); }

/// Rounds to the nearest T, ties to even.
template <typename T>
TEMPER_HOST_DEVICE T rounded_to(float number);
template <>
TEMPER_HOST_DEVICE inline float rounded_to<float>(float number) {
  return number;
}
template <>
TEMPER_HOST_DEVICE inline Bf16 rounded_to<Bf16>(float number) {
  if (number != number) return {0x7FC0};
  const auto bits = std::bit_cast<uint32_t>(number);
  return {static_cast<uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16)};
}

/// Numbers that a thread reads or writes at once: 16 bytes, where they are all there and lie on
/// such a border.
template <typename T>
struct Chunk {
  static constexpr int kSize = 16 / static_cast<int>(sizeof(T));

  float numbers[kSize];  ///< Those past the count are 0.

  /// Reads `count` numbers, or kSize if there are more.
  TEMPER_HOST_DEVICE static Chunk read(const T* from, int64_t count) {
    Values own{};
    if (count >= kSize && is_aligned(from)) {
      own = *reinterpret_cast<const Values*>(from);
    } else {
      for (int i = 0; i < kSize; ++i) {
        if (i < count) own.values[i] = from[i];
      }
    }
    Chunk chunk;
    for (int i = 0; i < kSize; ++i) chunk.numbers[i] = to_float(own.values[i]);
    return chunk;
  }

  /// Rounds each.
  TEMPER_HOST_DEVICE void write(T* to, int64_t count) const {
    Values own;
    for (int i = 0; i < kSize; ++i) own.values[i] = rounded_to<T>(numbers[i]);
    if (count >= kSize && is_aligned(to)) {
      *reinterpret_cast<Values*>(to) = own;
    } else {
      for (int i = 0; i < kSize; ++i) {
        if (i < count) to[i] = own.values[i];
      }
    }
  }

 private:
  // What may stand for numbers that were stored one by one.
  struct alignas(16) Values {
    T values[kSize];
  };

  TEMPER_HOST_DEVICE static bool is_aligned(const void* place) {
    return reinterpret_cast<uintptr_t>(place) % 16 == 0;
  }
};

/// How rows of `size` numbers are divided among a kernel's threads, a chunk for each: a block has
/// numbers of one row.
template <typename T, int kNumThreads>
struct RowChunks {
  uint32_t num_rows, size;

  TEMPER_HOST_DEVICE uint32_t blocks_per_row() const {
    constexpr uint32_t kPerBlock = kNumThreads * Chunk<T>::kSize;
    return (size + kPerBlock - 1) / kPerBlock;
  }
  int64_t num_blocks() const { return int64_t{num_rows} * blocks_per_row(); }

  TEMPER_HOST_DEVICE uint32_t row(GridPlace place) const { return place.block / blocks_per_row(); }
  TEMPER_HOST_DEVICE uint32_t column(GridPlace place) const {
    return (place.block % blocks_per_row() * kNumThreads + place.thread) * Chunk<T>::kSize;
  }
};

}  // namespace temper
