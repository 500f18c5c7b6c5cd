// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <c10/util/BFloat16.h>

#include <cstddef>
#include <cstdint>

namespace temper {

// Tiles on their way into products and out of them, by the widest vectors of the processor.

struct TileMatrix {
  const float* data;
  int64_t rows;
  int64_t columns;
  int64_t stride;
};

/// Asks the processor for memory that is soon read or written.
inline void fetch(const void* memory, int64_t num_bytes) {
  constexpr int64_t kCacheLine = 64;
  const auto* bytes = static_cast<const std::byte*>(memory);
  for (int64_t i = 0; i < num_bytes; i += kCacheLine) __builtin_prefetch(bytes + i);
}

/// to[j][i] = from[i][j].
void transpose_tile(const TileMatrix& from, float* to, int64_t to_stride);

/// to[i] = {first[i], second[i]}, rounded to the nearest in bf16; 0 instead of `second` if it is
/// null.
void interleave(const at::BFloat16* first, const at::BFloat16* second, int64_t count, float* to);
void interleave(const float* first, const float* second, int64_t count, float* to);

/// to[i][j] = from[i][j], rounded to the nearest. What is too small to be a normal number of fp32
/// may become 0.
void round_tile(const TileMatrix& from, at::BFloat16* to, int64_t to_stride);

}  // namespace temper
