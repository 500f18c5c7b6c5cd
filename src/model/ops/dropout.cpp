// SPDX-License-Identifier: Apache-2.0
#include "model/ops/dropout.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <span>
#include <utility>

#include "core/random.h"
#include "model/ops/dropout_kernel.h"
#include "model/ops/kernel_call.h"
#include "model/ops/rows.h"

namespace temper {
namespace {

constexpr int64_t kPiece = 1024;  // Elements that are computed at once.
constexpr int64_t kGrain = 8;     // Pieces that are worth a thread: arbitrary.

/// What elements are multiplied with.
class DropoutFactors {
 public:
  explicit DropoutFactors(DropoutDraw draw) : draw_(draw) {}

  // Of one piece, to [kPiece] of them.
  void write(int64_t piece, float* factors) const {
    std::array<uint32_t, kPiece / 2> words;
    philox_run(draw_.key, static_cast<uint64_t>(piece * (kPiece / DropoutDraw::kPerCall)), {0, 0},
               words);
    for (size_t i = 0; i < words.size(); ++i) {
      factors[2 * i] = (words[i] & 0xFFFFU) < draw_.threshold ? 0.0F : draw_.kept;
      factors[2 * i + 1] = (words[i] >> 16) < draw_.threshold ? 0.0F : draw_.kept;
    }
  }

 private:
  DropoutDraw draw_;
};

// to = factors x + keep * to, in one launch. Shapes: x, to dense and of one order.
[[maybe_unused]] void multiply_by_kernel(const at::Tensor& x, DropoutDraw draw, float keep,
                                         const at::Tensor& to) {
  dispatch_kernel(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    launch_beside(x, DropoutKernel<T>{source_of<T>(x), place_of<T>(to), x.numel(), keep, draw});
  });
}

// The same on the CPU.
template <typename T>
void multiply_factors(std::span<const T> x, const DropoutFactors& factors, float keep, T* to) {
  const int64_t size = std::ssize(x);
  at::parallel_for(0, (size + kPiece - 1) / kPiece, kGrain, [&](int64_t begin, int64_t end) {
    float result[kPiece], numbers[kPiece], kept[kPiece];
    for (int64_t piece = begin; piece < end; ++piece) {
      const int64_t first = piece * kPiece, count = std::min(kPiece, size - first);
      factors.write(piece, result);
      const float* values = read_row(x.data() + first, numbers, count);
      for (int64_t i = 0; i < count; ++i) result[i] *= values[i];
      if (keep != 0.0F) {
        const float* before = read_row(to + first, kept, count);
        for (int64_t i = 0; i < count; ++i) result[i] += keep * before[i];
      }
      at::vec::convert(result, to + first, count);
    }
  });
}

}  // namespace

at::Tensor Dropout::apply(const at::Tensor& x, uint64_t place) const {
  if (!is_active()) return x;
  const at::Tensor result = at::empty(x.sizes(), x.options());
  multiply(x.contiguous(), place, /*keep=*/0.0F, result);
  return result;
}

void Dropout::add_applied(at::Tensor sum, const at::Tensor& x, uint64_t place) const {
  multiply(x, place, /*keep=*/1.0F, std::move(sum));
}

void Dropout::multiply(const at::Tensor& x, uint64_t place, float keep, at::Tensor to) const {
  const uint64_t key = random_word(seed_ ^ (place << 32), static_cast<uint64_t>(*number_));
  const DropoutDraw draw{key, static_cast<uint32_t>(std::lround(probability_ * 65536.0)),
                         static_cast<float>(1.0 / (1.0 - probability_))};
  if constexpr (kHasKernels) {
    if (!x.is_cpu()) return multiply_by_kernel(x, draw, keep, to);
  }
  if (!x.is_cpu()) {
    const at::Tensor factors =  // Drawn on the host, which does not wait for their copy.
        apply(at::ones(x.sizes(), at::kFloat), place)
            .pin_memory()
            .to(x.device(), /*non_blocking=*/true);
    if (keep == 0.0F) {
      to.copy_(factors.mul(x));
    } else {
      to.mul_(keep).add_(factors.mul(x));
    }
    return;
  }
  const DropoutFactors factors(draw);
  dispatch_dtype(x.scalar_type(), [&](auto element) {
    using T = decltype(element);
    const std::span<const T> numbers(x.const_data_ptr<T>(), static_cast<size_t>(x.numel()));
    multiply_factors<T>(numbers, factors, keep, to.mutable_data_ptr<T>());
  });
}

}  // namespace temper
