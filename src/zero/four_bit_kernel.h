// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "core/chunk.h"
#include "core/kernel.h"

namespace temper {

/// Where the slices of all ranks have the codes and scales of a matrix, as FourBitUnit packs them.
struct PackedMatrix {
  const uint8_t* packed;
  int64_t slice_bytes;  ///< Of one rank.
  int64_t shard_size;   ///< Elements of one rank: of all matrices of the unit.
  int64_t begin, size;  ///< Of the matrix, in elements of the unit.
  int64_t block_size;   ///< Elements with one scale.

  /// Of scales that are quantised: their 256 values, the scale of each 256 of them, and what is
  /// added. Null: the slices have fp32 scales.
  const float* scale_values;
  const float* scale_absmax;
  float scale_offset;
};

/// Writes a matrix in one pass: value * absmax, rounded once to fp32 and then to T. The bits are
/// those of `dequantise` and `dequantise_absmax`. A thread takes eight elements, of one block.
/// Shapes: out [matrix.size].
/// Registers: at most 34, occupancy 0.75.
template <typename T>
struct FourBitKernel {
  static constexpr int kNumThreads = 256;
  static constexpr int kNumPhases = 2;
  static constexpr int kNumElements = 8;  // Of a thread.
  struct Shared {
    float values[16];
  };

  PackedMatrix matrix;
  T* out;
  float values[16];  ///< Of the codes.

  int64_t num_blocks() const {
    return num_blocks_for(matrix.size, int64_t{kNumThreads} * kNumElements);
  }

  TEMPER_HOST_DEVICE void run(int phase, GridPlace place, Shared& shared) const {
    if (phase == 0) {
      if (place.thread < 16) shared.values[place.thread] = values[place.thread];
      return;
    }
    const int64_t first =
        (int64_t{place.block} * kNumThreads + place.thread) * int64_t{kNumElements};
    if (first >= matrix.size) return;
    const int64_t element = matrix.begin + first, own = element % matrix.shard_size;
    const uint8_t* const slice = matrix.packed + element / matrix.shard_size * matrix.slice_bytes;
    const float absmax =
        scale_of(slice + matrix.shard_size / 2, own / matrix.block_size, first / matrix.block_size);
    for (int begin = 0; begin < kNumElements; begin += Chunk<T>::kSize) {
      Chunk<T> chunk;
      for (int i = 0; i < Chunk<T>::kSize; i += 2) {
        const uint8_t byte = slice[(own + begin + i) / 2];
        chunk.numbers[i] = shared.values[byte >> 4] * absmax;
        chunk.numbers[i + 1] = shared.values[byte & 15] * absmax;
      }
      chunk.write(out + first + begin, matrix.size - first - begin);
    }
  }

 private:
  // `own` counts blocks in the slice, `block` in the matrix.
  TEMPER_HOST_DEVICE float scale_of(const uint8_t* scales, int64_t own, int64_t block) const {
    constexpr int64_t kScalesPerAbsmax = 256;
    if (matrix.scale_values == nullptr) {
      return reinterpret_cast<const float*>(scales)[own];
    }
    const float difference =
        matrix.scale_values[scales[own]] * matrix.scale_absmax[block / kScalesPerAbsmax];
    return difference + matrix.scale_offset;
  }
};

}  // namespace temper
