// SPDX-License-Identifier: Apache-2.0
#include "optim/gradient_norm.h"

#include <ATen/DeviceAccelerator.h>
#include <ATen/Parallel.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <c10/core/DeviceGuard.h>

#include <algorithm>
#include <array>
#include <stdexcept>
#include <vector>

#include "optim/squares_kernel.h"

namespace temper {
namespace {

constexpr int64_t kLanes =
    16;  // Four vectors of four doubles: enough to hide an addition's latency.
constexpr int64_t kGrain = 16;  // Blocks that are worth a thread.

// Element k goes to lane k % kLanes, and lanes are added in order. The square of an fp32 number is
// exact in double, so a fused multiply-add changes nothing.
double sum_of_squares(const float* elements, int64_t size) {
  std::array<double, kLanes> lanes{};
  int64_t first = 0;
  for (; first + kLanes <= size; first += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const double element = elements[first + lane];
      lanes[static_cast<size_t>(lane)] += element * element;
    }
  }
  for (int64_t lane = 0; first + lane < size; ++lane) {
    const double element = elements[first + lane];
    lanes[static_cast<size_t>(lane)] += element * element;
  }
  double sum = 0.0;
  for (const double lane : lanes) sum += lane;
  return sum;
}

int64_t num_blocks(int64_t size) { return (size + kNormBlock - 1) / kNormBlock; }

[[maybe_unused]] at::Tensor sums_by_kernel(const at::Tensor& gradients) {
  static_assert(SquaresKernel::kSize == kNormBlock);
  const SquaresKernel kernel{gradients.const_data_ptr<float>(), nullptr, gradients.numel()};
  const at::Tensor sums = at::empty({kernel.num_blocks()}, gradients.options().dtype(at::kDouble));
  const c10::DeviceGuard guard(gradients.device());
  const auto stream = at::accelerator::getCurrentStream(gradients.device().index());
  launch(SquaresKernel{kernel.numbers, sums.mutable_data_ptr<double>(), kernel.size},
         stream.native_handle());
  return sums;
}

// Block by block, by LibTorch's operators, or a kernel with the same bits. Shapes: returns [blocks]
// fp64, on the device.
at::Tensor sums_of_squares(const at::Tensor& gradients) {
  if constexpr (kHasKernels) {
    if (!gradients.is_cpu()) return sums_by_kernel(gradients);
  }
  const int64_t blocks = num_blocks(gradients.numel());
  at::Tensor squares =
      at::constant_pad_nd(gradients.view(-1), {0, blocks * kNormBlock - gradients.numel()})
          .view({blocks, kNormBlock})
          .to(at::kDouble)
          .square();
  // By halves, since the order within a library's reduction depends on the number of rows.
  for (int64_t half = kNormBlock / 2; half > 0; half /= 2) {
    squares = squares.narrow(1, 0, half) + squares.narrow(1, half, half);
  }
  return squares.view(-1);
}

}  // namespace

void add_squares(const at::Tensor& gradients, ExactSum& sum) {
  if (!gradients.is_contiguous() || gradients.scalar_type() != at::kFloat) {
    throw std::invalid_argument("add_squares wants a contiguous fp32 tensor");
  }
  if (!gradients.is_cpu()) {
    add_squares_by_operators({&gradients, 1}, sum);
    return;
  }
  const int64_t size = gradients.numel();
  const auto* const elements = gradients.const_data_ptr<float>();
  std::vector<double> sums(static_cast<size_t>(num_blocks(size)));  // [block]
  at::parallel_for(0, num_blocks(size), kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      const int64_t first = block * kNormBlock;
      sums[static_cast<size_t>(block)] =
          sum_of_squares(elements + first, std::min(kNormBlock, size - first));
    }
  });
  for (const double block : sums) sum.add(block);
}

void add_squares(std::span<const at::Tensor> gradients, ExactSum& sum) {
  if (!gradients.empty() && !gradients.front().is_cpu()) {
    add_squares_by_operators(gradients, sum);
    return;
  }
  for (const at::Tensor& one : gradients) add_squares(one, sum);
}

void add_squares_by_operators(std::span<const at::Tensor> gradients, ExactSum& sum) {
  std::vector<at::Tensor> sums;  // [block] of each.
  for (const at::Tensor& one : gradients) sums.push_back(sums_of_squares(one));
  if (sums.empty()) return;
  const at::Tensor all = at::cat(sums).cpu();
  for (int64_t block = 0; block < all.numel(); ++block) {
    sum.add(all.const_data_ptr<double>()[block]);
  }
}

double clip_factor(double norm, double max_norm) {
  if (max_norm == 0.0) return 1.0;
  return std::min(1.0, max_norm / (norm + 1e-6));
}

}  // namespace temper
