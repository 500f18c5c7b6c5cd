// SPDX-License-Identifier: Apache-2.0
#include "model/ops/cross_entropy.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "model/ops/rows.h"

namespace temper {
namespace {

struct Exponentials {
  float maximum;
  float sum;
};

constexpr int64_t kSumBlock = 512;  // Few enough fp32 additions, of terms of very different size.

// Leaves exp(row - maximum) in `out`. In one fp32 sum, the many small terms of a vocabulary would
// be rounded away below the few large ones: all losses would be too low by 1e-5 and more.
template <typename T>
Exponentials exponentiate(const float* row, float* out, int64_t size) {
  const float maximum = at::vec::reduce_all<float>(
      [](Vector a, Vector b) { return at::vec::maximum(a, b); }, row, size);
  const Vector shift(maximum);
  const int64_t whole = size - size % Vector::size();
  double sum = 0.0;
  for (int64_t begin = 0; begin < whole; begin += kSumBlock) {
    Vector sums(0.0F);
    for (int64_t i = begin; i < std::min(begin + kSumBlock, whole); i += Vector::size()) {
      const Vector e = exponential<T>(Vector::loadu(row + i) - shift);
      sums = sums + e;
      e.store(out + i);
    }
    sum += at::vec::vec_reduce_all<float>([](Vector a, Vector b) { return a + b; }, sums);
  }
  for (int64_t i = whole; i < size; ++i) {
    out[i] = std::exp(row[i] - maximum);
    sum += out[i];
  }
  return {maximum, static_cast<float>(sum)};
}

enum class Write { kNothing, kGradient };

template <Write write, typename T>
float loss_of_row(T* row, int64_t target, int64_t size, float* scratch) {
  const float* logits = read_row(row, scratch, size);
  const float own = logits[target];
  float* exponentials = write == Write::kGradient ? row_buffer(row, scratch) : scratch;
  const Exponentials e = exponentiate<T>(logits, exponentials, size);
  if constexpr (write == Write::kGradient) {
    const float factor = 1.0F / e.sum;
    for (int64_t i = 0; i < size; ++i) exponentials[i] *= factor;
    exponentials[target] -= 1.0F;
    write_row(row, exponentials, size);
  }
  return e.maximum + std::log(e.sum) - own;
}

template <Write write>
at::Tensor losses_on_cpu(const at::Tensor& logits, const at::Tensor& targets) {
  const int64_t num_rows = logits.size(0), size = logits.size(1);
  at::Tensor losses = at::empty({num_rows}, at::kFloat);
  float* out = losses.mutable_data_ptr<float>();
  const int64_t* ids = targets.const_data_ptr<int64_t>();
  dispatch_dtype(logits.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    T* rows = static_cast<T*>(logits.data_ptr());
    at::parallel_for(0, num_rows, 1, [&](int64_t begin, int64_t end) {
      RowScratch scratch(size);
      for (int64_t row = begin; row < end; ++row) {
        out[row] = loss_of_row<write>(rows + row * size, ids[row], size, scratch.data());
      }
    });
  });
  return losses;
}

}  // namespace

at::Tensor cross_entropy(const at::Tensor& logits, const at::Tensor& targets) {
  if (logits.is_cpu()) return losses_on_cpu<Write::kNothing>(logits, targets);
  return at::cross_entropy_loss(logits.to(at::kFloat), targets, {}, at::Reduction::None);
}

at::Tensor cross_entropy_with_gradient(at::Tensor logits, const at::Tensor& targets) {
  if (logits.is_cpu()) return losses_on_cpu<Write::kGradient>(logits, targets);
  const at::Tensor wide = logits.to(at::kFloat);
  at::Tensor probabilities = at::softmax(wide, 1);
  const at::Tensor losses = at::cross_entropy_loss(wide, targets, {}, at::Reduction::None);
  const at::Tensor index = targets.unsqueeze(1);
  logits.copy_(probabilities.scatter_add_(1, index, at::full_like(index, -1, wide.options())));
  return losses;
}

}  // namespace temper
