// SPDX-License-Identifier: Apache-2.0
#include "model/ops/column_scale.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "model/ops/column_sum.h"
#include "model/ops/rows.h"

namespace temper {
namespace {

// Calls function(row, scratch [3, size]) for each row of a block.
template <typename Function>
void for_each_row(Range rows, int64_t size, Function function) {
  RowScratch scratch(3 * size);
  for (int64_t row = rows.begin; row < rows.end; ++row) function(row, scratch.data());
}

template <typename T>
void scale_row(const T* x, const float* factors, int64_t size, float* scratch, T* out) {
  const float* values = read_row(x, scratch, size);
  float* result = row_buffer(out, scratch + size);
  for (int64_t i = 0; i < size; ++i) result[i] = values[i] * factors[i];
  write_row(out, result, size);
}

template <typename T>
void add_products(const T* a, const T* b, int64_t size, float* scratch, float* sums) {
  const float* first = read_row(a, scratch, size);
  const float* second = read_row(b, scratch + size, size);
  for (int64_t i = 0; i < size; ++i) sums[i] += first[i] * second[i];
}

}  // namespace

at::Tensor scale_columns(const at::Tensor& x, const at::Tensor& factors) {
  if (!x.is_cpu()) return x.mul(factors).to(x.scalar_type());
  at::Tensor out = at::empty(x.sizes(), x.options());
  const int64_t num_rows = x.size(0), size = x.size(1);
  dispatch_dtype(x.scalar_type(), [&](auto element) {
    using T = decltype(element);
    const T* from = x.const_data_ptr<T>();
    T* to = out.mutable_data_ptr<T>();
    run_tasks(num_row_blocks(num_rows), [&](int64_t block) {
      for_each_row(row_block(block, num_rows), size, [&](int64_t row, float* scratch) {
        scale_row(from + row * size, factors.const_data_ptr<float>(), size, scratch,
                  to + row * size);
      });
    });
  });
  return out;
}

ColumnScaleGradients scale_columns_backward(const at::Tensor& gradient, const at::Tensor& x,
                                            const at::Tensor& factors) {
  if (!x.is_cpu()) {
    return {scale_columns(gradient, factors), gradient.to(at::kFloat).mul(x).sum(0)};
  }
  const int64_t num_rows = x.size(0), size = x.size(1), num_blocks = num_row_blocks(num_rows);
  ColumnScaleGradients result{at::empty(x.sizes(), x.options()), at::empty({size}, at::kFloat)};
  const at::Tensor partial = at::zeros({num_blocks, size}, at::kFloat);
  dispatch_dtype(x.scalar_type(), [&](auto element) {
    using T = decltype(element);
    const T *upper = gradient.const_data_ptr<T>(), *from = x.const_data_ptr<T>();
    T* to = result.x.mutable_data_ptr<T>();
    float* sums = partial.mutable_data_ptr<float>();
    run_tasks(num_blocks, [&](int64_t block) {
      for_each_row(row_block(block, num_rows), size, [&](int64_t row, float* scratch) {
        const int64_t begin = row * size;
        add_products(upper + begin, from + begin, size, scratch, sums + block * size);
        scale_row(upper + begin, factors.const_data_ptr<float>(), size, scratch, to + begin);
      });
    });
  });
  add_partial_sums(result.factors, partial);
  return result;
}

}  // namespace temper
