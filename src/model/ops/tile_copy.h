// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <c10/util/BFloat16.h>

#include <cstdint>

namespace temper {

// Tiles on their way into products and out of them, by the widest vectors of the processor.

struct TileMatrix {
  const float* data;
  int64_t rows;
  int64_t columns;
  int64_t stride;
};

/// to[j][i] = from[i][j].
void transpose_tile(const TileMatrix& from, float* to, int64_t to_stride);

/// to[i][j] = from[i][j], rounded to the nearest. What is too small to be a normal number of fp32
/// may become 0.
void round_tile(const TileMatrix& from, at::BFloat16* to, int64_t to_stride);

}  // namespace temper
