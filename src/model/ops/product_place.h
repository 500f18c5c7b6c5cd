// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <c10/core/ScalarType.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "core/range.h"
#include "model/ops/product.h"
#include "model/ops/product_cut.h"
#include "model/ops/rows.h"
#include "model/ops/tile_copy.h"

namespace temper {

/// Where the sums of a product go.
struct ProductPlace {
  void* data;
  at::ScalarType dtype;
  int64_t row_step, column_step;

  template <typename T>
  T* at(int64_t row, int64_t column) const {
    return static_cast<T*>(data) + row * row_step + column * column_step;
  }

  /// Asks the processor for what is soon written.
  void fetch(Range rows, Range columns) const {
    const bool is_turned = column_step != 1;
    const Range lines = is_turned ? columns : rows, dense = is_turned ? rows : columns;
    const int64_t step = is_turned ? column_step : row_step;
    const auto element_bytes = static_cast<int64_t>(c10::elementSize(dtype));
    const auto* bytes = static_cast<const std::byte*>(data);
    for (int64_t line = lines.begin; line < lines.end; ++line) {
      temper::fetch(bytes + (line * step + dense.begin) * element_bytes,
                    dense.size() * element_bytes);
    }
  }
};

/// What one row of a tile, of at most kTile numbers, becomes.
template <typename T>
void scale_sums(float* sums, int64_t count, const T* before, ProductScales scales) {
  if (scales.keep != 0.0F) {
    float wide[kTile];
    const float* kept = read_row(before, wide, count);
    for (int64_t i = 0; i < count; ++i) sums[i] = scales.scale * sums[i] + scales.keep * kept[i];
  } else if (scales.scale != 1.0F) {
    for (int64_t i = 0; i < count; ++i) sums[i] *= scales.scale;
  }
}

/// Writes a tile of at most kTile rows and columns. Shapes: sums [shape.rows, kTile], which change.
template <typename T>
void write_tile(float* sums, ProductShape shape, int64_t row_step, T* to, ProductScales scales) {
  for (int64_t i = 0; i < shape.rows; ++i) {
    scale_sums(sums + i * kTile, shape.columns, to + i * row_step, scales);
  }
  if constexpr (std::is_same_v<T, float>) {
    for (int64_t i = 0; i < shape.rows; ++i) {
      std::copy_n(sums + i * kTile, shape.columns, to + i * row_step);
    }
  } else {
    round_tile({sums, shape.rows, shape.columns, kTile}, to, row_step);
  }
}

/// The same where the place's columns are dense: as rows, what is there included.
template <typename T>
void write_turned_tile(const float* sums, ProductShape shape, int64_t column_step, T* to,
                       ProductScales scales) {
  float turned[kTile * kTile];
  transpose_tile({sums, shape.rows, shape.columns, kTile}, turned, kTile);
  write_tile(turned, {shape.columns, shape.rows, 0}, column_step, to, scales);
}

}  // namespace temper
