// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "core/chunk.h"
#include "core/kernel.h"

namespace temper {

/// Adds row order[i] of `gradient` to row tokens[i] of `sums`, for each i: in fp32, those of one
/// token in the order of i, rounded once. A block begins where a token does, and takes all of its
/// rows: few columns, so that a frequent token is many blocks' work.
/// Shapes: sums [vocab_size, size], gradient [num_rows, size]; tokens [num_rows], ascending; order
///   [num_rows].
/// Registers: at most 34, occupancy 0.50.
template <typename T>
struct EmbeddingKernel {
  static constexpr int kNumThreads = 32;
  static constexpr int kNumPhases = 1;
  struct Shared {};

  T* sums;
  const T* gradient;
  const int64_t* tokens;
  const int64_t* order;
  RowChunks<T, kNumThreads> rows;

  int64_t num_blocks() const { return rows.num_blocks(); }

  TEMPER_HOST_DEVICE void run(int /*phase*/, GridPlace place, Shared& /*shared*/) const {
    const uint32_t first = rows.row(place), column = rows.column(place), size = rows.size;
    const int64_t token = tokens[first];
    if (column >= size || (first > 0 && tokens[first - 1] == token)) return;
    T* const sum = sums + token * size + column;
    auto total = Chunk<T>::read(sum, size - column);
    for (uint32_t i = first; i < rows.num_rows && tokens[i] == token; ++i) {
      const auto row = Chunk<T>::read(gradient + order[i] * size + column, size - column);
      for (int k = 0; k < Chunk<T>::kSize; ++k) total.numbers[k] += row.numbers[k];
    }
    total.write(sum, size - column);
  }
};

}  // namespace temper
