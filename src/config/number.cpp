// SPDX-License-Identifier: Apache-2.0
#include "config/number.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>

#include "core/concat.h"
#include "core/message_text.h"

namespace temper {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// A number in its parts: sign, digits before and behind the point, power of ten.
struct Decimal {
  bool is_negative = false;
  std::string whole, fraction;
  int exponent = 0;

  bool is_zero() const {
    const std::string digits = whole + fraction;
    return std::all_of(digits.begin(), digits.end(), [](char c) { return c == '0'; });
  }
};

std::string take_digits(std::string_view& text) {
  size_t count = 0;
  while (count < text.size() && is_digit(text[count])) ++count;
  const std::string digits(text.substr(0, count));
  text.remove_prefix(count);
  return digits;
}

bool take(std::string_view& text, std::string_view any_of) {
  if (text.empty() || any_of.find(text.front()) == std::string_view::npos) return false;
  text.remove_prefix(1);
  return true;
}

std::optional<int> take_exponent(std::string_view& text) {
  const bool is_negative = !text.empty() && text.front() == '-';
  take(text, "+-");
  const std::string digits = take_digits(text);
  if (digits.empty() || digits.size() > 4) return std::nullopt;
  const int exponent = std::stoi(digits);
  return is_negative ? -exponent : exponent;
}

// -?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?
std::optional<Decimal> split(std::string_view text) {
  Decimal number;
  number.is_negative = take(text, "-");
  number.whole = take_digits(text);
  if (number.whole.empty() || (number.whole.size() > 1 && number.whole[0] == '0')) return {};
  if (take(text, ".")) {
    number.fraction = take_digits(text);
    if (number.fraction.empty()) return {};
  }
  if (take(text, "eE")) {
    const std::optional<int> exponent = take_exponent(text);
    if (!exponent) return {};
    number.exponent = *exponent;
  }
  if (!text.empty()) return {};
  return number;
}

std::string without(std::string text, std::string_view characters) {
  std::erase_if(text, [&](char c) { return characters.find(c) != std::string_view::npos; });
  return text;
}

std::string advice_in_base(std::string_view digits, int base) {
  uint64_t value = 0;
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
  if (error != std::errc{} || end != digits.data() + digits.size()) return "";
  return concat("write it in base ten: ", value);
}

// What the writer of something like a number probably meant.
std::string advice_for(std::string_view text) {
  const std::string lower = to_lower_ascii(text.substr(0, 64));
  if (lower.starts_with("0x")) return advice_in_base(text.substr(2), 16);
  if (lower.starts_with("0o")) return advice_in_base(text.substr(2), 8);
  if (lower.starts_with("0b")) return advice_in_base(text.substr(2), 2);
  const std::string bare = without(lower, ".+-");
  if (bare == "nan" || bare == "inf" || bare == "infinity") return "write a finite number";
  std::string plain = without(lower, "_,'+");
  if (plain.starts_with(".")) plain = "0" + plain;
  if (plain.ends_with(".")) plain.pop_back();
  while (plain.size() > 1 && plain[0] == '0' && is_digit(plain[1])) plain.erase(0, 1);
  return plain != lower && split(plain) ? "write " + plain : "";
}

// The digits of a whole number, not zero; nothing if it has a fraction or more than 19 digits.
std::optional<std::string> whole_digits(const Decimal& number) {
  std::string digits = number.whole + number.fraction;
  const int64_t zeros = number.exponent - static_cast<int64_t>(number.fraction.size());
  if (zeros > 19) return std::nullopt;
  digits.append(static_cast<size_t>(std::max<int64_t>(0, zeros)), '0');
  for (int64_t i = zeros; i < 0; ++i) {
    if (digits.back() != '0') return std::nullopt;
    digits.pop_back();
  }
  digits.erase(0, digits.find_first_not_of('0'));
  if (digits.size() > 19) return std::nullopt;
  return digits;
}

}  // namespace

Parsed<int64_t> parse_integer(std::string_view text) {
  const std::optional<Decimal> number = split(text);
  if (!number) return {.advice = advice_for(text)};
  if (number->is_zero()) {
    if (number->is_negative) return {.advice = "write 0"};
    return {.value = 0};
  }
  const std::optional<std::string> digits = whole_digits(*number);
  if (!digits) return {};
  const std::string signed_digits = (number->is_negative ? "-" : "") + *digits;
  int64_t value = 0;
  const char* end = signed_digits.data() + signed_digits.size();
  if (std::from_chars(signed_digits.data(), end, value).ec != std::errc{}) return {};
  return {.value = value};
}

Parsed<double> parse_real(std::string_view text) {
  const std::optional<Decimal> number = split(text);
  if (!number) return {.advice = advice_for(text)};
  if (number->is_zero()) {
    if (number->is_negative) return {.advice = "write 0"};
    return {.value = 0.0};
  }
  double value = 0.0;
  const auto error = std::from_chars(text.data(), text.data() + text.size(), value).ec;
  if (error != std::errc{} || !std::isfinite(value) || value == 0.0) {
    return {.advice = "write a number that fits into double precision"};
  }
  return {.value = value};
}

std::string shortest_text(double number) {
  std::array<char, 32> buffer{};
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), number).ptr;
  return {buffer.data(), end};
}

}  // namespace temper
