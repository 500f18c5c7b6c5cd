// SPDX-License-Identifier: Apache-2.0
#include "model/ops/column_sum.h"

#include <ATen/ATen.h>

#include "model/ops/rows.h"

namespace temper {
namespace {

template <typename T>
void sum_block(const T* rows, Range range, int64_t size, float* sums) {
  at::Tensor scratch = at::empty({size}, at::kFloat);
  std::fill(sums, sums + size, 0.0F);
  for (int64_t row = range.begin; row < range.end; ++row) {
    const float* values = read_row(rows + row * size, scratch.mutable_data_ptr<float>(), size);
    for (int64_t i = 0; i < size; ++i) sums[i] += values[i];
  }
}

at::Tensor sum_on_cpu(const at::Tensor& matrix) {
  const int64_t num_rows = matrix.size(0), size = matrix.size(1);
  const int64_t num_blocks = num_row_blocks(num_rows);
  const at::Tensor partial = at::empty({num_blocks, size}, at::kFloat);
  dispatch_dtype(matrix.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const T* rows = matrix.const_data_ptr<T>();
    run_tasks(num_blocks, [&](int64_t block) {
      sum_block(rows, row_block(block, num_rows), size,
                partial.mutable_data_ptr<float>() + block * size);
    });
  });
  return partial;
}

}  // namespace

void column_sum_out(at::Tensor sums, const at::Tensor& matrix) {
  if (!matrix.is_cpu()) {
    sums.copy_(at::sum(matrix, {0}, /*keepdim=*/false, at::kFloat));
    return;
  }
  add_partial_sums(std::move(sums), sum_on_cpu(matrix.contiguous()));
}

void add_partial_sums(at::Tensor sums, const at::Tensor& partial) {
  const int64_t size = partial.size(1);
  float* total = partial.mutable_data_ptr<float>();
  for (int64_t row = 1; row < partial.size(0); ++row) {
    const float* values = total + row * size;
    for (int64_t i = 0; i < size; ++i) total[i] += values[i];
  }
  sums.copy_(partial.select(0, 0));
}

}  // namespace temper
