// SPDX-License-Identifier: Apache-2.0
#include "model/ops/thin_tiles.h"

#include <algorithm>
#include <stdexcept>
#include <type_traits>
#include <vector>

#include "model/ops/wide_vectors.h"

namespace temper {
namespace {

// 16 rows of lanes, and lanes of 16 columns.
struct ThinFactors {
  const float* rows;
  int64_t stride;  // Between rows.
  const float* columns;
  int64_t num_lanes;
};

#if defined(__x86_64__)

template <typename T>
struct WideProduct;
template <>
struct WideProduct<float> {
  [[gnu::target("avx512bw"), gnu::always_inline]] static inline __m512 add(__m512 sum, __m512 a,
                                                                           __m512 b) {
    return _mm512_fmadd_ps(a, b, sum);
  }
};
template <>
struct WideProduct<at::BFloat16> {
  [[gnu::target("avx512bw,avx512bf16"), gnu::always_inline]] static inline __m512 add(__m512 sum,
                                                                                      __m512 a,
                                                                                      __m512 b) {
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
  }
};

// Left to itself, the processor begins to fetch a row when it is read, since so many are read side
// by side.
[[gnu::target("avx512bw"), gnu::always_inline]] inline void fetch_next_rows(const ThinFactors& in,
                                                                            int64_t lane) {
  for (int64_t i = kWide; i < 2 * kWide; ++i) {
    _mm_prefetch(reinterpret_cast<const char*>(in.rows + i * in.stride + lane), _MM_HINT_T0);
  }
}

// A vector has a number of each row: of one column the sums of 16 rows.
template <typename T, int kColumns>
[[gnu::target("avx512bw,avx512bf16")]] void multiply_turned(const ThinFactors& in,
                                                            const TileSum& to) {
  __m512 sums[kColumns];
  for (__m512& sum : sums) sum = _mm512_setzero_ps();
  for (int64_t lane = 0; lane < in.num_lanes; lane += kWide) {
    fetch_next_rows(in, lane);
    Wide turned[kWide];
    load_columns(in.rows + lane, in.stride, turned);
    const float* columns = in.columns + lane * kWide;
#pragma GCC unroll 16
    for (int64_t i = 0; i < kWide; ++i) {
#pragma GCC unroll 8
      for (int64_t k = 0; k < kColumns; ++k) {
        const __m512 number = _mm512_set1_ps(columns[i * kWide + k]);
        sums[k] = WideProduct<T>::add(sums[k], turned[i], number);
      }
    }
  }
  for (int64_t k = 0; k < kColumns; ++k) {
    float of_rows[kWide];
    _mm512_storeu_ps(of_rows, sums[k]);
    for (int64_t i = 0; i < kWide; ++i) {
      float& place = to.data[i * to.stride + k];
      place = to.is_begun ? place + of_rows[i] : of_rows[i];
    }
  }
}

// A vector has a number of each column: of one row the sums of 16 columns.
template <typename T>
[[gnu::target("avx512bw,avx512bf16")]] void multiply_sixteen(const ThinFactors& in,
                                                             const TileSum& to) {
  __m512 sums[kWide];
  for (__m512& sum : sums) sum = _mm512_setzero_ps();
  for (int64_t lane = 0; lane < in.num_lanes; lane += kWide) {
    fetch_next_rows(in, lane);
    for (int64_t k = lane; k < lane + kWide; ++k) {
      const __m512 columns = _mm512_loadu_ps(in.columns + k * kWide);
#pragma GCC unroll 16
      for (int64_t i = 0; i < kWide; ++i) {
        sums[i] = WideProduct<T>::add(sums[i], _mm512_set1_ps(in.rows[i * in.stride + k]), columns);
      }
    }
  }
  for (int64_t i = 0; i < kWide; ++i) {
    float* place = to.data + i * to.stride;
    const __m512 sum = sums[i];
    _mm512_storeu_ps(place, to.is_begun ? _mm512_add_ps(_mm512_loadu_ps(place), sum) : sum);
  }
}

template <typename T>
void multiply_rows(const ThinFactors& in, int64_t num_columns, const TileSum& to) {
  if (num_columns == 1) return multiply_turned<T, 1>(in, to);
  if (num_columns <= 4) return multiply_turned<T, 4>(in, to);
  if (num_columns <= 8) return multiply_turned<T, 8>(in, to);
  multiply_sixteen<T>(in, to);
}

#else

template <typename T>
void multiply_rows(const ThinFactors&, int64_t, const TileSum&) {
  throw std::logic_error("this processor has no kernels for products with few columns");
}

#endif

// Numbers whose sums are rounded at each step.
template <typename T>
std::vector<T> uneven_numbers(int64_t count, int64_t first) {
  std::vector<T> numbers;
  for (int64_t i = first; i < first + count; ++i) {
    numbers.push_back(static_cast<T>(static_cast<float>(i * i % 1999 - 999) / 777.0F));
  }
  return numbers;
}

// Whether the sums are those of oneDNN's kernels, which differ from processor to processor.
template <typename T>
bool has_same_bits() {
  constexpr int64_t kDepth = 16 * kWide * kPerLane<T>;
  const TileShape shape{kWide, kWide, kDepth};
  const std::vector<T> a = uneven_numbers<T>(kWide * kDepth, 1);
  const std::vector<T> b = uneven_numbers<T>(kWide * kDepth, 1000);
  for (const int64_t num_columns : {1, 4, 8, 16}) {
    float expected[kWide * kWide], found[kWide * kWide];
    for (const bool is_begun : {false, true}) {
      multiply_tiles(shape, TileFactor<T>{a.data(), kDepth}, b.data(), {expected, kWide, is_begun});
      multiply_thin_tiles(shape, num_columns, TileFactor<T>{a.data(), kDepth}, b.data(),
                          {found, kWide, is_begun});
      for (int64_t row = 0; row < kWide; ++row) {
        if (!std::equal(found + row * kWide, found + row * kWide + num_columns,
                        expected + row * kWide)) {
          return false;
        }
      }
    }
  }
  return true;
}

}  // namespace

template <typename T>
bool has_thin_tiles(const TileShape& shape, int64_t stride) {
  constexpr bool is_narrow = std::is_same_v<T, at::BFloat16>;
  static const bool has_kernels =
      has_wide_vectors() && (!is_narrow || has_bfloat16_tiles()) && has_same_bits<T>();
  return has_kernels && shape.rows % kWide == 0 && shape.columns == kWide &&
         shape.depth % (kWide * kPerLane<T>) == 0 && stride % kPerLane<T> == 0;
}

template <typename T>
void multiply_thin_tiles(const TileShape& shape, int64_t num_columns, TileFactor<T> a, const T* b,
                         TileSum c) {
  const auto* columns = reinterpret_cast<const float*>(b);
  for (int64_t row = 0; row < shape.rows; row += kWide) {
    const auto* rows = reinterpret_cast<const float*>(a.data + row * a.stride);
    multiply_rows<T>({rows, a.stride / kPerLane<T>, columns, shape.depth / kPerLane<T>},
                     num_columns, {c.data + row * c.stride, c.stride, c.is_begun});
  }
}

template bool has_thin_tiles<float>(const TileShape&, int64_t);
template bool has_thin_tiles<at::BFloat16>(const TileShape&, int64_t);
template void multiply_thin_tiles<float>(const TileShape&, int64_t, TileFactor<float>, const float*,
                                         TileSum);
template void multiply_thin_tiles<at::BFloat16>(const TileShape&, int64_t, TileFactor<at::BFloat16>,
                                                const at::BFloat16*, TileSum);

}  // namespace temper
