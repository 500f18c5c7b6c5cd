// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace temper {

/// A number read from text; where there is none, what to write instead, if that can be guessed.
template <typename T>
struct Parsed {
  std::optional<T> value = {};
  std::string advice = {};
};

/// Base ten, without leading zeros, plus sign or thousands marks. Decimals and exponents are fine
/// as long as the number is whole: 1e5 is 100000. No negative zero.
Parsed<int64_t> parse_integer(std::string_view text);

/// Base ten and finite: 0.1, 2e-5, -3. No negative zero, and nothing that rounds to zero.
Parsed<double> parse_real(std::string_view text);

/// The shortest text that `parse_real` reads as the same number.
std::string shortest_text(double number);

}  // namespace temper
