// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/kernel.h"

namespace temper {

/// Replaces counters by the random words that they and the key give: the ten rounds of the cipher,
/// on `kCount` counters side by side.
///
/// Shapes: counters [word of a counter][counter].
/// Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011 (Philox 4x32-10).
template <size_t kCount>
TEMPER_HOST_DEVICE inline void philox_mix(uint64_t key, uint32_t (&counters)[4][kCount]) {
  constexpr uint64_t kMultiplier0 = 0xD2511F53;
  constexpr uint64_t kMultiplier1 = 0xCD9E8D57;
  constexpr uint32_t kWeyl0 = 0x9E3779B9;
  constexpr uint32_t kWeyl1 = 0xBB67AE85;
  auto key0 = static_cast<uint32_t>(key);
  auto key1 = static_cast<uint32_t>(key >> 32);
  auto& [a, b, c, d] = counters;
  for (int round = 0; round < 10; ++round) {
    for (size_t i = 0; i < kCount; ++i) {
      const uint64_t product0 = kMultiplier0 * a[i];
      const uint64_t product1 = kMultiplier1 * c[i];
      a[i] = static_cast<uint32_t>(product1 >> 32) ^ b[i] ^ key0;
      b[i] = static_cast<uint32_t>(product1);
      c[i] = static_cast<uint32_t>(product0 >> 32) ^ d[i] ^ key1;
      d[i] = static_cast<uint32_t>(product0);
    }
    key0 += kWeyl0;
    key1 += kWeyl1;
  }
}

}  // namespace temper
