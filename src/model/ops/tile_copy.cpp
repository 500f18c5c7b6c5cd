// SPDX-License-Identifier: Apache-2.0
#include "model/ops/tile_copy.h"

#include <ATen/cpu/vec/functional.h>

#include <algorithm>
#include <cstring>

#include "model/ops/wide_vectors.h"

namespace temper {
namespace {

#if defined(__x86_64__)

bool rounds_wide_vectors() {
  return has_wide_vectors() && __builtin_cpu_supports("avx512bf16") != 0;
}

[[gnu::target("avx512f")]] void transpose_wide(const float* from, int64_t stride, float* to,
                                               int64_t to_stride) {
  Wide columns[kWide];
  load_columns(from, stride, columns);
  for (int i = 0; i < kWide; ++i) std::memcpy(to + i * to_stride, &columns[i], sizeof(Wide));
}

// Returns how many numbers it has rounded; the others are fewer than a vector's.
[[gnu::target("avx512f,avx512bf16")]] int64_t round_wide(const float* from, int64_t count,
                                                         at::BFloat16* to) {
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const __m256bh rounded = _mm512_cvtneps_pbh(_mm512_loadu_ps(from + i));
    std::memcpy(to + i, &rounded, sizeof rounded);
  }
  return i;
}

#else

bool rounds_wide_vectors() { return false; }
void transpose_wide(const float*, int64_t, float*, int64_t) {}
int64_t round_wide(const float*, int64_t, at::BFloat16*) { return 0; }

#endif

void transpose_by_blocks(const TileMatrix& from, float* to, int64_t to_stride) {
  constexpr int64_t kBlock = 8;
  for (int64_t i = 0; i < from.rows; i += kBlock) {
    const int64_t rows = std::min(kBlock, from.rows - i);
    for (int64_t j = 0; j < from.columns; j += kBlock) {
      const int64_t columns = std::min(kBlock, from.columns - j);
      const float* corner = from.data + i * from.stride + j;
      float* place = to + j * to_stride + i;
      if (rows == kBlock && columns == kBlock) {
        at::vec::transpose_mxn<float, kBlock, kBlock>(corner, from.stride, place, to_stride);
      } else {
        at::vec::transpose_mxn<float>(corner, from.stride, place, to_stride, static_cast<int>(rows),
                                      static_cast<int>(columns));
      }
    }
  }
}

}  // namespace

void transpose_tile(const TileMatrix& from, float* to, int64_t to_stride) {
  if (!has_wide_vectors()) return transpose_by_blocks(from, to, to_stride);
  const int64_t rows = from.rows / kWide * kWide, columns = from.columns / kWide * kWide;
  for (int64_t i = 0; i < rows; i += kWide) {
    for (int64_t j = 0; j < columns; j += kWide) {
      transpose_wide(from.data + i * from.stride + j, from.stride, to + j * to_stride + i,
                     to_stride);
    }
  }
  transpose_by_blocks({from.data + columns, rows, from.columns - columns, from.stride},
                      to + columns * to_stride, to_stride);
  transpose_by_blocks({from.data + rows * from.stride, from.rows - rows, from.columns, from.stride},
                      to + rows, to_stride);
}

void round_tile(const TileMatrix& from, at::BFloat16* to, int64_t to_stride) {
  const bool is_wide = rounds_wide_vectors();
  for (int64_t i = 0; i < from.rows; ++i) {
    const float* row = from.data + i * from.stride;
    at::BFloat16* place = to + i * to_stride;
    const int64_t done = is_wide ? round_wide(row, from.columns, place) : 0;
    at::vec::convert(row + done, place + done, from.columns - done);
  }
}

}  // namespace temper
