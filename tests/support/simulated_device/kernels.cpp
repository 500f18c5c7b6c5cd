// SPDX-License-Identifier: Apache-2.0
// The kernels of our own on the simulated device: each thread of their grids, one after the other.
// A program that is linked with it and with temper_with_kernels computes on the device what a build
// for GPUs does. Compiled as CUDA's compiler has it: no product and sum is fused.
#include <c10/util/Type.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <type_traits>
#include <typeinfo>
#include <vector>

#include "core/kernel.h"
#include "support/simulated_device/device_counts.h"
#include "support/simulated_device/device_memory.h"

namespace temper {
namespace {

// A kernel whose pointers into the device's memory are to its contents. What looks like an address
// of the device is one: nothing else in a kernel is as large.
template <typename Kernel>
Kernel on_contents(const Kernel& kernel) {
  static_assert(std::is_trivially_copyable_v<Kernel> && sizeof(Kernel) % sizeof(void*) == 0);
  const testing::DeviceMemory& memory = testing::DeviceMemory::own();
  void* words[sizeof(Kernel) / sizeof(void*)];
  std::memcpy(words, &kernel, sizeof kernel);
  for (void*& word : words) {
    if (memory.has(word)) word = memory.on_host(word);
  }
  Kernel moved = kernel;
  std::memcpy(&moved, words, sizeof kernel);
  return moved;
}

// Threads in an order that no phase may lean on.
std::vector<uint32_t> shuffled(int num_threads) {
  static std::minstd_rand random(7);
  std::vector<uint32_t> threads(static_cast<size_t>(num_threads));
  std::iota(threads.begin(), threads.end(), 0U);
  std::ranges::shuffle(threads, random);
  return threads;
}

}  // namespace

template <typename Kernel>
void launch(const Kernel& kernel, void* /*stream*/) {
  testing::count_launch(c10::demangle(typeid(Kernel).name()));
  const Kernel moved = on_contents(kernel);
  const auto shared = std::make_unique<typename Kernel::Shared>();
  const std::vector<uint32_t> threads = shuffled(Kernel::kNumThreads);
  for (int64_t block = 0; block < kernel.num_blocks(); ++block) {
    std::memset(static_cast<void*>(shared.get()), 0xFF, sizeof *shared);  // NaN.
    for (int phase = 0; phase < Kernel::kNumPhases; ++phase) {
      for (const uint32_t thread : threads) {
        moved.run(phase, {static_cast<uint32_t>(block), thread}, *shared);
      }
    }
  }
}

}  // namespace temper

#include "model/ops/cross_entropy.cu"
#include "model/ops/dropout.cu"
#include "model/ops/embedding.cu"
#include "model/ops/mlp_activation.cu"
#include "model/ops/rotary.cu"
#include "optim/squares.cu"
#include "zero/fold.cu"
#include "zero/four_bit_unit.cu"
