// SPDX-License-Identifier: Apache-2.0
#include "zero/eight_bit.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <stdexcept>

namespace temper {
namespace {

constexpr float kSmallestScale = 0x1p-100F;

}  // namespace

EightBitCodes::EightBitCodes(MapSign sign) : is_signed_(sign == MapSign::kSigned) {
  std::ranges::copy(dynamic_map(sign), values_);
  if (is_signed_) values_[0] = -1.0F;
  for (int code = 0; code < 255; ++code) bounds_[code] = (values_[code] + values_[code + 1]) / 2.0F;
  bounds_[255] = std::numeric_limits<float>::infinity();
  fill_bins();
}

// A bin has the numbers that share sign, exponent and the upper seven bits of the fraction: so few
// that at most one bound lies among them.
void EightBitCodes::fill_bins() {
  const auto code_of = [this](float x) {
    return static_cast<uint8_t>(std::lower_bound(bounds_, bounds_ + 255, x) - bounds_);
  };
  for (uint32_t bin = 0; bin < kNumBins; ++bin) {
    const uint32_t first = bin == 0 ? 0 : (kFirstBin + bin) << 16;
    const uint32_t last = ((kFirstBin + bin) << 16) | 0xFFFF;
    const float low = std::bit_cast<float>(first), high = std::bit_cast<float>(last);
    bins_[0][bin] = code_of(low);
    bins_[1][bin] = code_of(-high);
    if (code_of(high) - bins_[0][bin] > 1 || code_of(-low) - bins_[1][bin] > 1) {
      throw std::logic_error("a bin of numbers has two bounds of codes");
    }
  }
}

// For x in [-1, 1].
uint8_t EightBitCodes::nearest(float x) const {
  const auto bits = std::bit_cast<uint32_t>(x);
  const uint32_t upper = std::max((bits & 0x7FFFFFFF) >> 16, kFirstBin);
  const uint8_t least = bins_[bits >> 31][upper - kFirstBin];
  return static_cast<uint8_t>(least + static_cast<uint8_t>(x > bounds_[least]));
}

float EightBitCodes::encode(std::span<const float> numbers, std::span<uint8_t> codes) const {
  float scale = 0.0F;
  for (const float number : numbers) scale = std::max(scale, std::fabs(number));
  if (scale < kSmallestScale) scale = 0.0F;
  const float inverse = scale > 0.0F ? 1.0F / scale : 0.0F;
  const auto least = static_cast<uint8_t>(is_signed_ ? 0 : 1);
  for (size_t i = 0; i < numbers.size(); ++i) {
    const float x = std::clamp(numbers[i] * inverse, -1.0F, 1.0F);
    codes[i] = std::max(nearest(x), x == 0.0F ? uint8_t{0} : least);
  }
  return scale;
}

void EightBitCodes::decode(std::span<const uint8_t> codes, float scale,
                           std::span<float> numbers) const {
  for (size_t i = 0; i < numbers.size(); ++i) numbers[i] = values_[codes[i]] * scale;
}

const EightBitCodes& eight_bit_codes(MapSign sign) {
  static const EightBitCodes with_sign(MapSign::kSigned), without(MapSign::kUnsigned);
  return sign == MapSign::kSigned ? with_sign : without;
}

}  // namespace temper
