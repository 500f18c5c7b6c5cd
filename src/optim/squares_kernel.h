// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "core/kernel.h"

namespace temper {

/// The sums of the squares of kSize numbers each; those past the end are 0. They are added by
/// halves: element i and element i + kSize / 2, then i + kSize / 4, and so on.
/// Shapes: numbers [size], sums [num_blocks()].
/// Registers: at most 32, occupancy 1.00.
struct SquaresKernel {
  static constexpr int kNumThreads = 256;
  static constexpr int kSize = 4096;
  static constexpr int kNumPhases = 9;  // One for a thread's own numbers, the others for halves.
  struct Shared {
    double sums[kNumThreads];
  };

  const float* numbers;
  double* sums;
  int64_t size;

  int64_t num_blocks() const { return num_blocks_for(size, kSize); }

  TEMPER_HOST_DEVICE void run(int phase, GridPlace place, Shared& shared) const {
    const int half = kNumThreads >> phase;
    const auto thread = static_cast<int>(place.thread);
    if (phase == 0) {
      shared.sums[thread] = own_sum(int64_t{place.block} * kSize + thread);
    } else if (thread < half) {
      shared.sums[thread] += shared.sums[thread + half];
    }
    if (phase == kNumPhases - 1 && thread == 0) sums[place.block] = shared.sums[0];
  }

 private:
  static constexpr int kOwn = kSize / kNumThreads;

  TEMPER_HOST_DEVICE double own_sum(int64_t first) const {
    double squares[kOwn];
    for (int i = 0; i < kOwn; ++i) {
      const int64_t place = first + int64_t{i} * kNumThreads;
      const double number = place < size ? numbers[place] : 0.0F;
      squares[i] = number * number;
    }
    for (int half = kOwn / 2; half > 0; half /= 2) {
      for (int i = 0; i < half; ++i) squares[i] += squares[i + half];
    }
    return squares[0];
  }
};

}  // namespace temper
