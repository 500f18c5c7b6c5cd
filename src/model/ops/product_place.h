// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <c10/core/ScalarType.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "model/ops/product.h"
#include "model/ops/product_cut.h"
#include "model/ops/rows.h"

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
};

/// Writes one row of a tile, of at most kTile numbers; changes `sums`.
template <typename T>
void write_sums(float* sums, int64_t count, T* to, ProductScales scales) {
  float kept[kTile];
  if (scales.keep != 0.0F) {
    const float* before = read_row(to, kept, count);
    for (int64_t i = 0; i < count; ++i) {
      sums[i] = scales.scale * sums[i] + scales.keep * before[i];
    }
  } else if (scales.scale != 1.0F) {
    for (int64_t i = 0; i < count; ++i) sums[i] *= scales.scale;
  }
  if constexpr (std::is_same_v<T, float>) {
    std::copy_n(sums, count, to);
  } else {
    write_row(to, sums, count);
  }
}

/// Writes a tile of at most kTile rows and columns. Shapes: sums [shape.rows, kTile].
template <typename T>
void write_tile(float* sums, ProductShape shape, const ProductPlace& place, T* to,
                ProductScales scales) {
  if (place.column_step == 1) {
    for (int64_t i = 0; i < shape.rows; ++i) {
      write_sums(sums + i * kTile, shape.columns, to + i * place.row_step, scales);
    }
    return;
  }
  T row[kTile];
  float column[kTile];
  for (int64_t j = 0; j < shape.columns; ++j) {
    T* line = to + j * place.column_step;
    for (int64_t i = 0; i < shape.rows; ++i) {
      column[i] = sums[i * kTile + j];
      row[i] = line[i * place.row_step];
    }
    write_sums(column, shape.rows, row, scales);
    for (int64_t i = 0; i < shape.rows; ++i) line[i * place.row_step] = row[i];
  }
}

}  // namespace temper
