// SPDX-License-Identifier: Apache-2.0
#include "zero/eight_bit.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <stdexcept>

namespace temper {
namespace {

constexpr float kSmallestScale = 0x1p-100F;

}  // namespace

EightBitCodes::EightBitCodes(MapSign sign) {
  std::ranges::copy(dynamic_map(sign), values_);
  if (sign == MapSign::kSigned) values_[0] = -1.0F;
  for (int code = 0; code < 255; ++code) bounds_[code] = (values_[code] + values_[code + 1]) / 2.0F;
  if (sign == MapSign::kUnsigned) bounds_[0] = 0.0F;
  bounds_[255] = std::numeric_limits<float>::infinity();
  fill_bins();
}

// A bin has the numbers that share sign, exponent and the upper seven bits of the fraction: so few
// that at most one bound lies among them.
void EightBitCodes::fill_bins() {
  const auto code_of = [this](float x) {
    return static_cast<int32_t>(std::lower_bound(bounds_, bounds_ + 255, x) - bounds_);
  };
  for (uint32_t bin = 0; bin < kNumBins; ++bin) {
    const uint32_t first = bin == 0 ? 0 : (kFirstBin + bin) << 16;
    const uint32_t last = ((kFirstBin + bin) << 16) | 0xFFFF;
    const float low = std::bit_cast<float>(first), high = std::bit_cast<float>(last);
    bins_[bin] = code_of(low);
    bins_[kNumBins + bin] = code_of(-high);
    if (code_of(high) - bins_[bin] > 1 || code_of(-low) - bins_[kNumBins + bin] > 1) {
      throw std::logic_error("a bin of numbers has two bounds of codes");
    }
  }
}

// By their bits, since comparing numbers would not vectorise.
float EightBitCodes::largest(std::span<const float> numbers) {
  uint32_t found = 0;
  for (const float number : numbers) {
    found = std::max(found, std::bit_cast<uint32_t>(number) & 0x7FFFFFFF);
  }
  return std::bit_cast<float>(found);
}

float EightBitCodes::encode(std::span<const float> numbers, std::span<uint8_t> codes) const {
  const float found = largest(numbers);
  const float scale = found < kSmallestScale ? 0.0F : found;
  const float inverse = scale > 0.0F ? 1.0F / scale : 0.0F;
  for (size_t i = 0; i < numbers.size(); ++i) {
    const float x = numbers[i] * inverse;
    const auto bits = std::bit_cast<uint32_t>(x);
    const uint32_t upper = std::max((bits & 0x7FFFFFFF) >> 16, kFirstBin) - kFirstBin;
    const int32_t least = bins_[upper + (bits >> 31) * kNumBins];
    codes[i] = static_cast<uint8_t>(least + static_cast<int32_t>(x > bounds_[least]));
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
