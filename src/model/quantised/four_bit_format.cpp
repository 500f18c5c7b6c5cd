// SPDX-License-Identifier: Apache-2.0
#include "model/quantised/four_bit_format.h"

#include <bit>
#include <stdexcept>

namespace temper {
namespace {

// Quantiles of the normal distribution, as bitsandbytes' get_4bit_type lists them.
constexpr std::array<float, 16> kNf4Values = {
    -1.0F,
    -0.6961928009986877F,
    -0.5250730514526367F,
    -0.39491748809814453F,
    -0.28444138169288635F,
    -0.18477343022823334F,
    -0.09105003625154495F,
    0.0F,
    0.07958029955625534F,
    0.16093020141124725F,
    0.24611230194568634F,
    0.33791524171829224F,
    0.44070982933044434F,
    0.5626170039176941F,
    0.7229568362236023F,
    1.0F,
};

// In bit order: a sign, then these magnitudes. Code 8, which small positive numbers get, is a
// positive zero in bitsandbytes' table and in most of its kernels.
constexpr std::array<float, 16> kFp4Values = {
    0.0F, 0.0625F / 12,  8.0F / 12,  1.0F,  4.0F / 12,  0.5F,  2.0F / 12,  0.25F,
    0.0F, -0.0625F / 12, -8.0F / 12, -1.0F, -4.0F / 12, -0.5F, -2.0F / 12, -0.25F,
};

constexpr std::array<uint8_t, 16> kNf4Order = {0, 1, 2,  3,  4,  5,  6,  7,
                                               8, 9, 10, 11, 12, 13, 14, 15};
constexpr std::array<uint8_t, 16> kFp4Order = {11, 10, 13, 12, 15, 14, 9, 0,
                                               8,  1,  6,  7,  4,  5,  2, 3};

constexpr FourBitSearch make_search(const std::array<float, 16>& values,
                                    const std::array<uint8_t, 16>& order) {
  FourBitSearch search{order, {}};
  for (size_t i = 0; i < 15; ++i) {
    search.midpoints[i] = (values[order[i]] + values[order[i + 1]]) / 2;
  }
  return search;
}

constexpr FourBitSearch kNf4Search = make_search(kNf4Values, kNf4Order);
constexpr FourBitSearch kFp4Search = make_search(kFp4Values, kFp4Order);

}  // namespace

void FourBitFormat::require_valid() const {
  if (block_size < 32 || block_size > 4096 || !std::has_single_bit(uint64_t(block_size))) {
    throw std::invalid_argument("a four-bit block has 32, 64, ... or 4096 elements");
  }
}

const std::array<float, 16>& four_bit_values(FourBitKind kind) {
  return kind == FourBitKind::kNf4 ? kNf4Values : kFp4Values;
}

const FourBitSearch& four_bit_search(FourBitKind kind) {
  return kind == FourBitKind::kNf4 ? kNf4Search : kFp4Search;
}

}  // namespace temper
