// SPDX-License-Identifier: Apache-2.0
#include "model/ops/cross_entropy.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <tuple>
#include <type_traits>
#include <utility>

#include "model/ops/cross_entropy_kernel.h"
#include "model/ops/kernel_call.h"
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

// The sum of weights[i] * (a[i] - b[i] - shift): exactly 0 where a and b are alike but for it.
double weighted_difference(const float* weights, const float* a, const float* b, float shift,
                           int64_t size) {
  const int64_t whole = size - size % Vector::size();
  double sum = 0.0;
  for (int64_t begin = 0; begin < whole; begin += kSumBlock) {
    Vector sums(0.0F);
    for (int64_t i = begin; i < std::min(begin + kSumBlock, whole); i += Vector::size()) {
      const Vector difference = Vector::loadu(a + i) - Vector::loadu(b + i) - Vector(shift);
      sums = sums + Vector::loadu(weights + i) * difference;
    }
    sum += at::vec::vec_reduce_all<float>([](Vector x, Vector y) { return x + y; }, sums);
  }
  for (int64_t i = whole; i < size; ++i) sum += weights[i] * (a[i] - b[i] - shift);
  return sum;
}

// Two rows of logits, and what a softmax makes of them in the rows of a scratch.
template <typename T>
class Distributions {
 public:
  Distributions(const T* row, const T* other, int64_t size, float* memory)
      : size_(size),
        memory_(memory),
        logits_(read_row(row, scratch(0), size)),
        others_(read_row(other, scratch(1), size)) {}

  const float* logits() const { return logits_; }

  // Of the logits as they are. Leaves exponentials in the place of the gradient.
  Exponentials own() { return exponentiate<T>(logits_, gradient(), size_); }
  float* gradient() const { return scratch(2); }

  // Adds the weighted divergence's gradient to the gradient; returns the divergence.
  float add_divergence(const KlOptions& kl) {
    const auto temperature = static_cast<float>(kl.temperature);
    const float* const a = at_temperature(logits_, temperature, scratch(0));
    const float* const b = at_temperature(others_, temperature, scratch(1));
    const Exponentials of_a = exponentiate<T>(a, scratch(3), size_);
    const Exponentials of_b = exponentiate<T>(b, scratch(4), size_);
    const double mean =
        weighted_difference(scratch(4), a, b, of_a.maximum - of_b.maximum, size_) / of_b.sum;
    const double divergence = std::log(static_cast<double>(of_a.sum) / of_b.sum) - mean;
    const auto factor = static_cast<float>(kl.weight * kl.temperature);
    const float* const p = divided(scratch(3), of_a.sum);
    const float* const q = divided(scratch(4), of_b.sum);
    float* const sum = gradient();
    for (int64_t i = 0; i < size_; ++i) sum[i] += factor * (p[i] - q[i]);
    return static_cast<float>(kl.temperature * kl.temperature * divergence);
  }

  // In a loop of its own, so that no product is fused with the difference: where both rows are
  // alike, that is 0.
  const float* divided(float* row, float sum) const {
    const float factor = 1.0F / sum;
    for (int64_t i = 0; i < size_; ++i) row[i] *= factor;
    return row;
  }

 private:
  float* scratch(int64_t row) const { return memory_ + row * size_; }

  // In fp32 the rows are not in the scratch, and must not be changed.
  const float* at_temperature(const float* row, float temperature, float* to) const {
    if (temperature == 1.0F) return row;
    for (int64_t i = 0; i < size_; ++i) to[i] = row[i] / temperature;
    return to;
  }

  int64_t size_;
  float* memory_;
  const float* logits_;
  const float* others_;
};

template <typename T>
std::pair<float, float> near_losses_of_row(T* row, int64_t target, Distributions<T> both,
                                           int64_t size, const KlOptions& kl) {
  const float own = both.logits()[target];
  const Exponentials e = both.own();
  float* const gradient = both.gradient();
  both.divided(gradient, e.sum);
  gradient[target] -= 1.0F;
  const float divergence = both.add_divergence(kl);
  if constexpr (std::is_same_v<T, float>) {
    std::copy_n(gradient, size, row);
  } else {
    write_row(row, gradient, size);
  }
  return {e.maximum + std::log(e.sum) - own, divergence};
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

template <Write write>
at::Tensor losses_by_kernel(const at::Tensor& logits, const at::Tensor& targets) {
  const at::Tensor losses = at::empty({logits.size(0)}, logits.options().dtype(at::kFloat));
  dispatch_kernel(logits.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    launch_beside(logits, CrossEntropyKernel<T>{place_of<T>(logits), source_of<int64_t>(targets),
                                                place_of<float>(losses), logits.size(0),
                                                logits.size(1), write == Write::kGradient});
  });
  return losses;
}

NearLosses near_losses_by_operators(const at::Tensor& logits, const at::Tensor& targets,
                                    const at::Tensor& other, const KlOptions& kl) {
  const at::Tensor wide = logits.to(at::kFloat);
  const at::Tensor losses = at::cross_entropy_loss(wide, targets, {}, at::Reduction::None);
  const at::Tensor p = at::log_softmax(wide.div(kl.temperature), 1);
  const at::Tensor q = at::log_softmax(other.to(at::kFloat).div(kl.temperature), 1);
  const at::Tensor q_share = q.exp();
  const at::Tensor divergence = q_share.mul(q.sub(p)).sum(1).mul_(kl.temperature * kl.temperature);
  const at::Tensor index = targets.unsqueeze(1);
  at::Tensor gradient = at::softmax(wide, 1);
  gradient.scatter_add_(1, index, at::full_like(index, -1, wide.options()));
  logits.copy_(gradient.add_(p.exp().sub_(q_share), kl.weight * kl.temperature));
  return {losses, divergence};
}

}  // namespace

at::Tensor cross_entropy(const at::Tensor& logits, const at::Tensor& targets) {
  if (logits.is_cpu()) return losses_on_cpu<Write::kNothing>(logits, targets);
  if constexpr (kHasKernels) return losses_by_kernel<Write::kNothing>(logits, targets);
  return at::cross_entropy_loss(logits.to(at::kFloat), targets, {}, at::Reduction::None);
}

NearLosses near_losses_with_gradient(at::Tensor logits, const at::Tensor& targets,
                                     const at::Tensor& other, const KlOptions& kl) {
  if (!logits.is_cpu()) return near_losses_by_operators(logits, targets, other, kl);
  const int64_t num_rows = logits.size(0), size = logits.size(1);
  NearLosses losses{at::empty({num_rows}, at::kFloat), at::empty({num_rows}, at::kFloat)};
  float* const own = losses.cross_entropy.mutable_data_ptr<float>();
  float* const divergences = losses.divergence.mutable_data_ptr<float>();
  const int64_t* ids = targets.const_data_ptr<int64_t>();
  dispatch_dtype(logits.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    T* rows = static_cast<T*>(logits.data_ptr());
    const T* others = static_cast<const T*>(other.const_data_ptr());
    at::parallel_for(0, num_rows, 1, [&](int64_t begin, int64_t end) {
      RowScratch scratch(kScratchRowsOfNear * size);
      for (int64_t row = begin; row < end; ++row) {
        const Distributions<T> both(rows + row * size, others + row * size, size, scratch.data());
        std::tie(own[row], divergences[row]) =
            near_losses_of_row(rows + row * size, ids[row], both, size, kl);
      }
    });
  });
  return losses;
}

at::Tensor cross_entropy_with_gradient(at::Tensor logits, const at::Tensor& targets) {
  if (logits.is_cpu()) return losses_on_cpu<Write::kGradient>(logits, targets);
  if constexpr (kHasKernels) return losses_by_kernel<Write::kGradient>(logits, targets);
  const at::Tensor wide = logits.to(at::kFloat);
  at::Tensor probabilities = at::softmax(wide, 1);
  const at::Tensor losses = at::cross_entropy_loss(wide, targets, {}, at::Reduction::None);
  const at::Tensor index = targets.unsqueeze(1);
  logits.copy_(probabilities.scatter_add_(1, index, at::full_like(index, -1, wide.options())));
  return losses;
}

}  // namespace temper
