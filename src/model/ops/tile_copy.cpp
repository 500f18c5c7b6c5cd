// SPDX-License-Identifier: Apache-2.0
#include "model/ops/tile_copy.h"

#include <ATen/cpu/vec/functional.h>

#include <algorithm>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace temper {
namespace {

// What is compiled is for the least of processors. This is for those with wider vectors, and chosen
// as the program runs.
#if defined(__x86_64__)

bool has_wide_vectors() { return __builtin_cpu_supports("avx512f") != 0; }
bool rounds_wide_vectors() {
  return has_wide_vectors() && __builtin_cpu_supports("avx512bf16") != 0;
}

using Wide = float __attribute__((vector_size(64)));

// The quarters 0 and 2 of both, and those between them.
[[gnu::target("avx512f")]] inline void split_quarters(const Wide& x, const Wide& y, Wide& even,
                                                      Wide& odd) {
  even = __builtin_shufflevector(x, y, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
  odd = __builtin_shufflevector(x, y, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
}

// 16 rows of 16 numbers: by twos and fours within quarters of a vector, then by quarters.
[[gnu::target("avx512f")]] void transpose_wide(const float* from, int64_t stride, float* to,
                                               int64_t to_stride) {
  Wide a[16], b[16];
  for (int i = 0; i < 16; ++i) std::memcpy(&a[i], from + i * stride, sizeof(Wide));
  for (int i = 0; i < 16; i += 2) {
    const Wide x = a[i], y = a[i + 1];
    b[i] = __builtin_shufflevector(x, y, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
    b[i + 1] =
        __builtin_shufflevector(x, y, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  }
  for (int i = 0; i < 16; i += 4) {
    for (int k = 0; k < 2; ++k) {
      const Wide x = b[i + k], y = b[i + k + 2];
      a[i + 2 * k] =
          __builtin_shufflevector(x, y, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
      a[i + 2 * k + 1] =
          __builtin_shufflevector(x, y, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
    }
  }
  for (int i = 0; i < 4; ++i) {
    Wide low[2], high[2], columns[4];
    split_quarters(a[i], a[i + 4], low[0], low[1]);
    split_quarters(a[i + 8], a[i + 12], high[0], high[1]);
    split_quarters(low[0], high[0], columns[0], columns[2]);
    split_quarters(low[1], high[1], columns[1], columns[3]);
    for (int k = 0; k < 4; ++k) {
      std::memcpy(to + (4 * k + i) * to_stride, &columns[k], sizeof(Wide));
    }
  }
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

bool has_wide_vectors() { return false; }
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
  constexpr int64_t kWide = 16;
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
