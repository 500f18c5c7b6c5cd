// SPDX-License-Identifier: Apache-2.0
#include "model/ops/tile_copy.h"

#include <ATen/cpu/vec/functional.h>

#include <algorithm>
#include <cstring>

#include "core/range.h"
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

// As above.
[[gnu::target("avx512bw")]] int64_t interleave_wide(const at::BFloat16* first,
                                                    const at::BFloat16* second, int64_t count,
                                                    uint32_t* pairs) {
  constexpr int64_t kNumbers = 2 * kWide;
  using Half = uint16_t __attribute__((vector_size(64)));
  int64_t i = 0;
  for (; i + kNumbers <= count; i += kNumbers) {
    Half a, b;
    std::memcpy(&a, first + i, sizeof a);
    std::memcpy(&b, second + i, sizeof b);
    const Half low =
        __builtin_shufflevector(a, b, 0, 32, 1, 33, 2, 34, 3, 35, 4, 36, 5, 37, 6, 38, 7, 39, 8, 40,
                                9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47);
    const Half high =
        __builtin_shufflevector(a, b, 16, 48, 17, 49, 18, 50, 19, 51, 20, 52, 21, 53, 22, 54, 23,
                                55, 24, 56, 25, 57, 26, 58, 27, 59, 28, 60, 29, 61, 30, 62, 31, 63);
    std::memcpy(pairs + i, &low, sizeof low);
    std::memcpy(pairs + i + kWide, &high, sizeof high);
  }
  return i;
}

#else

bool rounds_wide_vectors() { return false; }
void transpose_wide(const float*, int64_t, float*, int64_t) {}
int64_t round_wide(const float*, int64_t, at::BFloat16*) { return 0; }
int64_t interleave_wide(const at::BFloat16*, const at::BFloat16*, int64_t, uint32_t*) { return 0; }

#endif

uint32_t bits_of(at::BFloat16 number) { return number.x; }
uint32_t bits_of(float number) { return c10::detail::round_to_nearest_even(number); }

template <typename From>
void interleave_pairs(const From* __restrict first, const From* __restrict second, Range numbers,
                      uint32_t* __restrict pairs) {
  const auto [begin, end] = numbers;
  if (second == nullptr) {
    for (int64_t i = begin; i < end; ++i) pairs[i] = bits_of(first[i]);
  } else {
    for (int64_t i = begin; i < end; ++i) {
      pairs[i] = bits_of(first[i]) | bits_of(second[i]) << 16;
    }
  }
}

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

void interleave(const at::BFloat16* first, const at::BFloat16* second, int64_t count, float* to) {
  auto* pairs = reinterpret_cast<uint32_t*>(to);
  const bool is_wide = second != nullptr && has_wide_vectors();
  const int64_t done = is_wide ? interleave_wide(first, second, count, pairs) : 0;
  interleave_pairs(first, second, {done, count}, pairs);
}

void interleave(const float* first, const float* second, int64_t count, float* to) {
  interleave_pairs(first, second, {0, count}, reinterpret_cast<uint32_t*>(to));
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
