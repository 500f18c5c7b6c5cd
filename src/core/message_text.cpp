// SPDX-License-Identifier: Apache-2.0
#include "core/message_text.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "core/concat.h"

namespace temper {
namespace {

constexpr size_t kLongestQuote = 60;
constexpr size_t kMostNames = 20;

// Control characters, those of two bytes too (U+0080 to U+009F), can command a terminal.
bool is_printable(std::string_view character) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(character[i]); };
  if (character.size() == 1) return byte(0) >= 0x20 && byte(0) != 0x7F;
  return byte(0) != 0xC2 || byte(1) >= 0xA0;
}

std::string escaped(char byte) {
  if (byte == '\n') return "\\n";
  if (byte == '\t') return "\\t";
  char code[8];
  std::snprintf(code, sizeof code, "\\x%02X", static_cast<unsigned char>(byte));
  return code;
}

std::string with_unit(int64_t number, const std::array<const char*, 5>& units) {
  if (number < 1000) return std::to_string(number) + units[0];
  auto scaled = static_cast<double>(number);
  size_t unit = 0;
  while (scaled >= 999.5 && unit + 1 < units.size()) {
    scaled /= 1000.0;
    ++unit;
  }
  std::array<char, 32> text{};
  const int decimals = scaled < 10 ? 2 : scaled < 100 ? 1 : 0;
  std::snprintf(text.data(), text.size(), "%.*f%s", decimals, scaled, units[unit]);
  return text.data();
}

}  // namespace

std::string quote(std::string_view text) {
  std::string result = "'";
  for (size_t i = 0; i < text.size();) {
    if (i >= kLongestQuote) return result + "…'";
    const std::string_view character = text.substr(i, utf8_character_size(text.substr(i)));
    if (!character.empty() && is_printable(character)) {
      result += character;
      i += character.size();
    } else {
      result += escaped(text[i++]);
    }
  }
  return result + "'";
}

std::string quote_if_needed(std::string_view text) {
  std::string quoted = quote(text);
  return quoted.size() == text.size() + 2 ? std::string(text) : quoted;
}

std::string list_names(const std::vector<std::string>& names) {
  std::string list;
  for (size_t k = 0; k < std::min(names.size(), kMostNames); ++k) {
    list += concat(k > 0 ? ", " : "", quote_if_needed(names[k]));
  }
  if (names.size() > kMostNames) list += concat(" and ", names.size() - kMostNames, " more");
  return list;
}

std::string to_text(const std::vector<int64_t>& shape) {
  std::string text;
  for (const int64_t size : shape) text += concat(text.empty() ? "" : ", ", size);
  return concat('[', text, ']');
}

size_t utf8_character_size(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const auto is_tail = [&](size_t i, unsigned low = 0x80, unsigned high = 0xBF) {
    return i < text.size() && byte(i) >= low && byte(i) <= high;
  };
  const unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return is_tail(1) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    const unsigned low = lead == 0xE0 ? 0xA0 : 0x80;
    const unsigned high = lead == 0xED ? 0x9F : 0xBF;
    return is_tail(1, low, high) && is_tail(2) ? 3 : 0;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    const unsigned low = lead == 0xF0 ? 0x90 : 0x80;
    const unsigned high = lead == 0xF4 ? 0x8F : 0xBF;
    return is_tail(1, low, high) && is_tail(2) && is_tail(3) ? 4 : 0;
  }
  return 0;
}

std::string to_lower_ascii(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return lower;
}

std::string duration_text(double seconds) {
  const auto whole = static_cast<long long>(std::llround(std::max(0.0, seconds)));
  std::array<char, 32> text{};
  if (whole < 60) {
    std::snprintf(text.data(), text.size(), "%llds", whole);
  } else if (whole < 3600) {
    std::snprintf(text.data(), text.size(), "%lldm%02llds", whole / 60, whole % 60);
  } else {
    std::snprintf(text.data(), text.size(), "%lldh%02lldm", whole / 3600, whole / 60 % 60);
  }
  return text.data();
}

std::string readable_bytes(int64_t bytes) {
  return with_unit(bytes, {" bytes", " kB", " MB", " GB", " TB"});
}

std::string readable_count(int64_t count) { return with_unit(count, {"", " k", " M", " G", " T"}); }

}  // namespace temper
