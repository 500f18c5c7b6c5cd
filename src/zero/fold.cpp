// SPDX-License-Identifier: Apache-2.0
#include "zero/fold.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <stdexcept>
#include <utility>

#include "core/floats.h"
#include "core/range.h"
#include "model/ops/kernel_call.h"
#include "zero/fold_kernel.h"

namespace temper {
namespace {

constexpr int64_t kGrain = 16384;  // Elements per task: 64 KiB of sums stay in the cache.

float to_float(float value) { return value; }
float to_float(c10::BFloat16 value) { return from_bf16(value.x); }

// One task's elements [begin, end): block after block, so that each inner loop vectorises.
template <typename Element>
void fold_task(const Element* blocks, int num_blocks, int64_t stride, std::pair<float*, Range> task,
               FoldStart start) {
  const auto [sum, range] = task;
  int first = 0;
  if (start == FoldStart::kFresh) {
    for (int64_t i = range.begin; i < range.end; ++i) sum[i] = to_float(blocks[i]);
    first = 1;
  }
  for (int block = first; block < num_blocks; ++block) {
    const Element* addend = blocks + block * stride;
    for (int64_t i = range.begin; i < range.end; ++i) sum[i] += to_float(addend[i]);
  }
}

template <typename Element>
void fold_on_host(const at::Tensor& blocks, int num_blocks, at::Tensor& sum, FoldStart start) {
  const auto* source = blocks.const_data_ptr<Element>();
  auto* target = sum.mutable_data_ptr<float>();
  const int64_t n = sum.numel();
  at::parallel_for(0, (n + kGrain - 1) / kGrain, 1, [&](int64_t first, int64_t last) {
    for (int64_t task = first; task < last; ++task) {
      const Range range{task * kGrain, std::min(n, (task + 1) * kGrain)};
      fold_task(source, num_blocks, n, {target, range}, start);
    }
  });
}

void fold_on_device(const at::Tensor& blocks, int num_blocks, at::Tensor& sum, FoldStart start) {
  const int64_t n = sum.numel();
  for (int block = 0; block < num_blocks; ++block) {
    const at::Tensor addend = blocks.narrow(0, block * n, n);
    if (block == 0 && start == FoldStart::kFresh) {
      sum.copy_(addend);
    } else {
      sum.add_(addend.to(at::kFloat));
    }
  }
}

[[maybe_unused]] void fold_by_kernel(const at::Tensor& blocks, int num_blocks, at::Tensor& sum,
                                     FoldStart start) {
  dispatch_kernel(blocks.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    launch_beside(sum, FoldKernel<T>{source_of<T>(blocks), place_of<float>(sum), num_blocks,
                                     sum.numel(), start == FoldStart::kFresh});
  });
}

}  // namespace

void fold_blocks(const at::Tensor& blocks, int num_blocks, at::Tensor sum, FoldStart start) {
  if (num_blocks < 1 || blocks.numel() != num_blocks * sum.numel()) {
    throw std::invalid_argument("fold_blocks: blocks must hold num_blocks times the sum");
  }
  if constexpr (kHasKernels) {
    if (!sum.is_cpu()) return fold_by_kernel(blocks, num_blocks, sum, start);
  }
  if (!sum.is_cpu()) return fold_on_device(blocks, num_blocks, sum, start);
  if (blocks.scalar_type() == at::kFloat) {
    return fold_on_host<float>(blocks, num_blocks, sum, start);
  }
  if (blocks.scalar_type() == at::kBFloat16) {
    return fold_on_host<c10::BFloat16>(blocks, num_blocks, sum, start);
  }
  throw std::invalid_argument("fold_blocks: blocks must be float32 or bfloat16");
}

}  // namespace temper
