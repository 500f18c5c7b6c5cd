// SPDX-License-Identifier: Apache-2.0
#include "core/exact_sum.h"

#include <bit>
#include <cmath>
#include <cstdlib>
#include <limits>

namespace temper {
namespace {

constexpr int kBitsPerWord = 32;
constexpr int kLowestBit = -1074;  // The weight of bit 0 of word 0: the smallest double's.

using Digits = std::array<int64_t, ExactSum::kNumWords>;  // Each in [0, 2^32), lowest first.

// The 64 bits from the highest one down, the last of which also says whether any bit below is set:
// enough to round to the nearest of 53 bits in one conversion.
double to_double(const Digits& digits) {
  size_t top = digits.size();
  while (top > 0 && digits[top - 1] == 0) --top;
  if (top == 0) return 0.0;
  const auto digit = [&](size_t below) {
    return below < top ? static_cast<uint64_t>(digits[top - 1 - below]) : 0;
  };
  const int spare = std::countl_zero(static_cast<uint32_t>(digit(0)));
  const uint64_t middle = (digit(1) << kBitsPerWord) | digit(2);
  uint64_t window = digit(0) << (kBitsPerWord + spare);
  window |= middle >> (kBitsPerWord - spare);
  bool has_more = (middle << (kBitsPerWord + spare)) != 0;
  for (size_t below = 3; below < top; ++below) has_more = has_more || digit(below) != 0;
  const int weight = (static_cast<int>(top) - 2) * kBitsPerWord - spare + kLowestBit;
  return std::ldexp(static_cast<double>(window | (has_more ? 1 : 0)), weight);
}

}  // namespace

void ExactSum::add(double number) {
  if (!std::isfinite(number)) {
    ++words_[kNumWords];
    return;
  }
  if (number == 0.0) return;
  int exponent = 0;
  const double fraction = std::frexp(number, &exponent);  // In [0.5, 1) with the sign.
  auto mantissa = static_cast<int64_t>(std::ldexp(std::abs(fraction), 53));
  int shift = exponent - 53 - kLowestBit;
  if (shift < 0) {  // A denormal: its low mantissa bits are zero.
    mantissa >>= -shift;
    shift = 0;
  }
  const int64_t sign = number < 0 ? -1 : 1;
  // The shifted mantissa spans at most 84 bits: three words.
  const int within = shift % kBitsPerWord;
  const auto bits = static_cast<uint64_t>(mantissa);
  const uint64_t low = bits << within;
  const uint64_t high = within == 0 ? 0 : bits >> (64 - within);
  const auto first = static_cast<size_t>(shift / kBitsPerWord);
  words_[first] += sign * static_cast<int64_t>(low & 0xFFFFFFFFu);
  words_[first + 1] += sign * static_cast<int64_t>(low >> kBitsPerWord);
  words_[first + 2] += sign * static_cast<int64_t>(high);
}

void ExactSum::add(const ExactSum& other) {
  for (size_t k = 0; k < words_.size(); ++k) words_[k] += other.words_[k];
}

double ExactSum::value() const {
  if (words_[kNumWords] != 0) return std::numeric_limits<double>::quiet_NaN();
  // Carry, so that each word but the last lies in [0, 2^32): one number has one form.
  Digits digits{};
  int64_t carry = 0;
  for (size_t k = 0; k < kNumWords; ++k) {
    const int64_t total = words_[k] + carry;
    digits[k] = total & 0xFFFFFFFF;
    carry = total >> kBitsPerWord;
  }
  const bool negative = carry < 0;
  if (negative) {  // Two's complement over all digits.
    int64_t borrow = 1;
    for (auto& digit : digits) {
      const int64_t flipped = (0xFFFFFFFF - digit) + borrow;
      digit = flipped & 0xFFFFFFFF;
      borrow = flipped >> kBitsPerWord;
    }
  }
  const double sum = to_double(digits);
  return negative ? -sum : sum;
}

}  // namespace temper
