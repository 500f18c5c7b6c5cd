// SPDX-License-Identifier: Apache-2.0
#include "model/ops/tiled_product.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "model/ops/rows.h"

namespace temper {
namespace {

constexpr int64_t kRowsPerTile = 128;  // Measured: fewer cost a tenth of a step of LoRA.

// A matrix of one row or column may have any stride there.
MatrixView view_of(const at::Tensor& matrix) {
  const bool is_transposed = matrix.stride(1) != 1;
  const int64_t stride = is_transposed ? std::max(matrix.stride(1), matrix.size(0))
                                       : std::max(matrix.stride(0), matrix.size(1));
  return {matrix.mutable_data_ptr<float>(), matrix.size(0), matrix.size(1), stride, is_transposed};
}

}  // namespace

void tiled_product(at::Tensor out, const at::Tensor& a, const at::Tensor& b, ProductScales scales) {
  if (!out.is_cpu()) {
    out.addmm_(a, b, scales.keep, scales.scale);
    return;
  }
  const MatrixView left = view_of(a), right = view_of(b), sum = view_of(out);
  const int64_t num_tiles = (sum.rows + kRowsPerTile - 1) / kRowsPerTile;
  run_tasks(num_tiles, [&](int64_t tile) {
    const int64_t begin = tile * kRowsPerTile, end = std::min(begin + kRowsPerTile, sum.rows);
    multiply(left.row_range(begin, end), right, sum.row_range(begin, end), scales);
  });
}

}  // namespace temper
