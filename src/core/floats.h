// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstdint>
#include <span>

#include "core/kernel.h"

namespace temper {

/// The fp32 number of a bfloat16's bits: bfloat16 is the upper half of fp32.
TEMPER_HOST_DEVICE inline float from_bf16(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

/// Whether no number is infinite or NaN. By the exponent's bits: comparing numbers would not
/// vectorise.
inline bool all_finite(std::span<const float> numbers) {
  constexpr uint32_t kExponent = 0x7f800000;
  uint32_t found = 0;
  for (const float number : numbers) {
    found |= static_cast<uint32_t>((std::bit_cast<uint32_t>(number) & kExponent) == kExponent);
  }
  return found == 0;
}

}  // namespace temper
