// SPDX-License-Identifier: Apache-2.0
#include "model/ops/tile_product.h"

#include <ATen/cpu/vec/functional.h>
#include <ATen/native/CPUBlas.h>

#include <algorithm>

namespace temper {

// Where oneDNN has no kernel for the processor, LibTorch calls its BLAS.
void multiply_tiles(const TileShape& shape, TileFactor a, const float* b, TileSum c) {
  at::native::cpublas::brgemm(shape.rows, shape.columns, shape.depth, a.stride, shape.columns,
                              c.stride, c.is_begun, a.data, b, c.data);
}

void transpose_tile(const TileMatrix& from, float* to, int64_t to_stride) {
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

}  // namespace temper
