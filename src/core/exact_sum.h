// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace temper {

/// A sum of doubles without rounding: any order, and any split over ranks, gives the same bits.
///
/// The state is a fixed-point number in 64-bit words of 32 bits each, so that up to 2^31 additions
/// cannot overflow a word. Words of several sums may be added one by one, over ranks too
/// (`words()`, an integer all-reduce, `words()` again): that is exact.
/// Source: Kulisch, "Computer arithmetic and validity", 2013 (long accumulator).
class ExactSum {
 public:
  // 2,098 bits span the finite doubles; 32 more hold the carries of 2^32 additions.
  static constexpr int kNumWords = 68;

  /// Adds one number. Infinity and NaN are kept aside and decide `value()`.
  void add(double number);

  /// Adds another sum, exactly.
  void add(const ExactSum& other);

  /// The sum rounded to the nearest double once, ties to even; NaN if a number was not finite.
  double value() const;

  /// The whole state, to be added element by element to another's. Shape: [kNumWords + 1].
  std::span<int64_t> words() { return words_; }

 private:
  // The last word counts numbers that were not finite.
  std::array<int64_t, kNumWords + 1> words_{};
};

}  // namespace temper
