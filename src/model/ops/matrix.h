// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace temper {

/// Part of a row-major fp32 matrix, or the transpose of one.
struct MatrixView {
  float* data = nullptr;
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t stride = 0;  // Between stored rows.
  bool is_transposed = false;

  MatrixView transposed() const { return {data, columns, rows, stride, !is_transposed}; }

  /// Some rows of what is seen.
  MatrixView row_range(int64_t begin, int64_t end) const {
    return {data + begin * (is_transposed ? 1 : stride), end - begin, columns, stride,
            is_transposed};
  }

  /// Some columns of what is seen.
  MatrixView column_range(int64_t begin, int64_t end) const {
    return transposed().row_range(begin, end).transposed();
  }
};

/// c = scale * a b + keep * c, on this thread. c is not transposed.
struct ProductScales {
  float scale = 1.0F;
  float keep = 0.0F;
};
void multiply(const MatrixView& a, const MatrixView& b, const MatrixView& c, ProductScales scales);

}  // namespace temper
