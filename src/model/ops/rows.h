// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/Parallel.h>
#include <ATen/cpu/vec/functional.h>
#include <c10/util/BFloat16.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <type_traits>

#include "core/range.h"

namespace temper {

// What the CPU kernels share. They compute in fp32, row by row; how rows are cut into tasks never
// depends on the number of threads, and neither does the order of a sum.

using Vector = at::vec::Vectorized<float>;

/// exp(x), good enough for a result in T: the quicker one of LibTorch is wrong by up to 20 units of
/// the last place of fp32, which is nothing beside what rounding to bf16 does.
template <typename T>
Vector exponential(Vector x) {
  if constexpr (std::is_same_v<T, float>) {
    return x.exp();
  } else {
    return x.exp_u20();
  }
}

template <typename T>
Vector sigmoid(Vector x) {
  return Vector(1.0F) / (Vector(1.0F) + exponential<T>(x.neg()));
}

/// A row as fp32: itself, or converted into `scratch`.
inline const float* read_row(const float* row, float* /*scratch*/, int64_t /*size*/) { return row; }
inline const float* read_row(const at::BFloat16* row, float* scratch, int64_t size) {
  at::vec::convert(row, scratch, size);
  return scratch;
}

/// Where to compute a row that `write_row` then leaves at `row`.
inline float* row_buffer(float* row, float* /*scratch*/) { return row; }
inline float* row_buffer(at::BFloat16* /*row*/, float* scratch) { return scratch; }

inline void write_row(float* /*row*/, const float* /*buffer*/, int64_t /*size*/) {}
inline void write_row(at::BFloat16* row, const float* buffer, int64_t size) {
  at::vec::convert(buffer, row, size);
}

/// Rounds fp32 numbers to what T can hold.
template <typename T>
void round_row(float* row, int64_t size) {
  if constexpr (!std::is_same_v<T, float>) {
    constexpr int64_t kCount = at::vec::Vectorized<T>::size();
    T rounded[kCount];
    for (int64_t i = 0; i < size; i += kCount) {
      const int64_t count = std::min(kCount, size - i);
      at::vec::convert(row + i, rounded, count);
      at::vec::convert(rounded, row + i, count);
    }
  }
}

/// Memory for rows on their way through fp32, one per thread of work.
class RowScratch {
 public:
  explicit RowScratch(int64_t size) : memory_(new float[static_cast<size_t>(size)]) {}
  float* data() { return memory_.get(); }

 private:
  std::unique_ptr<float[]> memory_;
};

/// Calls function(offset, count) for each vector of a row; count is smaller for the last one.
template <typename Function>
void for_each_vector(int64_t size, Function function) {
  for (int64_t i = 0; i < size; i += Vector::size()) {
    function(i, static_cast<int>(std::min<int64_t>(Vector::size(), size - i)));
  }
}

/// Sums over rows are taken block by block, then over the blocks in order.
inline constexpr int64_t kRowsPerBlock = 32;
inline int64_t num_row_blocks(int64_t num_rows) {
  return (num_rows + kRowsPerBlock - 1) / kRowsPerBlock;
}
inline Range row_block(int64_t block, int64_t num_rows) {
  return {block * kRowsPerBlock, std::min((block + 1) * kRowsPerBlock, num_rows)};
}

/// Calls function(T{}) with T = float or BFloat16.
template <typename Function>
void dispatch_dtype(at::ScalarType dtype, Function function) {
  switch (dtype) {
    case at::kFloat: return function(float{});
    case at::kBFloat16: return function(at::BFloat16{});
    default: throw std::invalid_argument("the model computes in float32 or bfloat16");
  }
}

/// Runs function(task) for each task. Every thread begins with one of its own, so that as many take
/// part as there are tasks, and takes the next one as it becomes free.
template <typename Function>
void run_tasks(int64_t num_tasks, Function function) {
  const int64_t num_threads = at::get_num_threads();
  std::atomic<int64_t> next{num_threads};
  at::parallel_for(0, num_threads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < std::min(end, num_tasks); ++task) function(task);
    for (int64_t task = next++; task < num_tasks; task = next++) function(task);
  });
}

}  // namespace temper
