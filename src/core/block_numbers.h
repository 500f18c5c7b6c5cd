// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "core/kernel.h"

namespace temper {

/// How a kernel's block makes one number of those of its threads, in a fixed order and in three
/// phases: each thread puts its own, `narrow` is called by each, and `total` is known to each.
template <typename Number, int kNumThreads>
struct BlockNumbers {
  static constexpr int kLanes = 32;

  Number numbers[kNumThreads];

  /// Thread t < kLanes combines the numbers t, t + kLanes, ….
  template <typename Combine>
  TEMPER_HOST_DEVICE void narrow(uint32_t thread, Combine combine) {
    if (thread >= kLanes) return;
    Number number = numbers[thread];
    for (int i = kLanes; i < kNumThreads; i += kLanes) {
      number = combine(number, numbers[static_cast<int>(thread) + i]);
    }
    numbers[thread] = number;
  }

  template <typename Combine>
  TEMPER_HOST_DEVICE Number total(Combine combine) const {
    Number number = numbers[0];
    for (int i = 1; i < kLanes; ++i) number = combine(number, numbers[i]);
    return number;
  }
};

}  // namespace temper
