// SPDX-License-Identifier: Apache-2.0
#include "app/readable.h"

#include <array>
#include <cstdio>

namespace temper {
namespace {

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

std::string readable_bytes(int64_t bytes) {
  return with_unit(bytes, {" bytes", " kB", " MB", " GB", " TB"});
}

std::string readable_count(int64_t count) { return with_unit(count, {"", " k", " M", " G", " T"}); }

}  // namespace temper
