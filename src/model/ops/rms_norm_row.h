// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>

#include "model/ops/rows.h"

namespace temper {

// RMSNorm of one row, shared by the norm of a block and the norms of heads.

template <typename T>
struct NormRow {
  const T* x;
  const float* weight;
  int64_t size;
  float* scratch;  // [3 * size]
};

// In one fp32 sum a row of some thousand elements loses its last bit, and an element of bf16 in ten
// thousand becomes another than with the exact sum, which transformers has.
inline float mean_of_squares(const float* x, int64_t size) {
  constexpr int64_t kBlock = 128;
  double sum = 0.0;
  for (int64_t begin = 0; begin < size; begin += kBlock) {
    sum += at::vec::map_reduce_all<float>([](Vector v) { return v * v; },
                                          [](Vector a, Vector b) { return a + b; }, x + begin,
                                          std::min(kBlock, size - begin));
  }
  return static_cast<float>(sum) / static_cast<float>(size);
}

/// Writes the normalized row; returns 1 / rms(x).
template <typename T>
float rms_norm_row(NormRow<T> row, T* out, float epsilon) {
  const float* x = read_row(row.x, row.scratch, row.size);
  const float mean = mean_of_squares(x, row.size);
  const float inverse = 1.0F / std::sqrt(mean + epsilon);
  float* y = row_buffer(out, row.scratch + row.size);
  for (int64_t i = 0; i < row.size; ++i) y[i] = x[i] * inverse;
  round_row<T>(y, row.size);
  for (int64_t i = 0; i < row.size; ++i) y[i] *= row.weight[i];
  write_row(out, y, row.size);
  return inverse;
}

/// With n = x / rms(x) and d = gradient * weight: writes (d - n mean(d n)) / rms(x) to `out` and
/// adds gradient * n to `weight_gradient`.
template <typename T>
void rms_norm_row_backward(NormRow<T> row, const T* gradient, float inverse, T* out,
                           float* weight_gradient) {
  const int64_t size = row.size;
  const float* x = read_row(row.x, row.scratch, size);
  const float* upper = read_row(gradient, row.scratch + size, size);
  float* result = row.scratch + 2 * size;
  Vector products(0.0F);
  for_each_vector(size, [&](int64_t i, int count) {
    const Vector u = Vector::loadu(upper + i, count);
    const Vector n = Vector::loadu(x + i, count) * Vector(inverse);
    const Vector d = u * Vector::loadu(row.weight + i, count);
    products = products + d * n;
    d.store(result + i, count);
  });
  const float sum =
      at::vec::vec_reduce_all<float>([](Vector a, Vector b) { return a + b; }, products);
  const float mean = sum / static_cast<float>(size);
  float* to = row_buffer(out, result);
  for (int64_t i = 0; i < size; ++i) {
    const float n = x[i] * inverse;
    weight_gradient[i] += upper[i] * n;
    to[i] = (result[i] - n * mean) * inverse;
  }
  write_row(out, to, size);
}

}  // namespace temper
