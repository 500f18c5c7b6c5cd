// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace temper {

inline constexpr int64_t kWide = 16;  // Floats of a wide vector.

#if defined(__x86_64__)

// What is compiled is for the least of processors. This is for those with vectors of 64 bytes, in
// functions that are chosen as the program runs.

/// Whether the processor has AVX-512 as servers have had it from the first on: with numbers of one
/// and two bytes, which comes with all that GCC may use beside it.
inline bool has_wide_vectors() { return __builtin_cpu_supports("avx512bw") != 0; }

using Wide = float __attribute__((vector_size(64)));

// The quarters 0 and 2 of both, and those between them.
[[gnu::target("avx512f"), gnu::always_inline]] inline void split_quarters(const Wide& x,
                                                                          const Wide& y, Wide& even,
                                                                          Wide& odd) {
  even = __builtin_shufflevector(x, y, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
  odd = __builtin_shufflevector(x, y, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
}

/// Reads 16 rows of 16 numbers as columns: by twos and fours within quarters of a vector, then by
/// quarters.
[[gnu::target("avx512f"), gnu::always_inline]] inline void load_columns(const float* from,
                                                                        int64_t stride,
                                                                        Wide (&columns)[kWide]) {
  Wide a[kWide], b[kWide];
  for (int64_t i = 0; i < kWide; ++i) std::memcpy(&a[i], from + i * stride, sizeof(Wide));
  for (int64_t i = 0; i < kWide; i += 2) {
    const Wide x = a[i], y = a[i + 1];
    b[i] = __builtin_shufflevector(x, y, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
    b[i + 1] =
        __builtin_shufflevector(x, y, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  }
  for (int64_t i = 0; i < kWide; i += 4) {
    for (int64_t k = 0; k < 2; ++k) {
      const Wide x = b[i + k], y = b[i + k + 2];
      a[i + 2 * k] =
          __builtin_shufflevector(x, y, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
      a[i + 2 * k + 1] =
          __builtin_shufflevector(x, y, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
    }
  }
  for (int64_t i = 0; i < 4; ++i) {
    Wide low[2], high[2];
    split_quarters(a[i], a[i + 4], low[0], low[1]);
    split_quarters(a[i + 8], a[i + 12], high[0], high[1]);
    split_quarters(low[0], high[0], columns[i], columns[8 + i]);
    split_quarters(low[1], high[1], columns[4 + i], columns[12 + i]);
  }
}

#else

inline bool has_wide_vectors() { return false; }

#endif

}  // namespace temper
