// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace temper {

// How values appear in messages.

/// The text in single quotes, fit for a terminal: on one line, not longer than 60 bytes or so, and
/// what is not printable as \xNN.
std::string quote(std::string_view text);

/// The text as it is where it is short and printable; otherwise in quotes.
std::string quote_if_needed(std::string_view text);

/// The names with commas between them, in quotes where needed; of many only the first twenty.
std::string list_names(const std::vector<std::string>& names);

/// A tensor's shape as "[2, 3]"; "[]" for a scalar.
std::string to_text(const std::vector<int64_t>& shape);

/// Number of bytes of the UTF-8 character that `text`, which is not empty, begins with; 0 if it
/// begins with none.
/// Source: Unicode 15, table 3-7 (well-formed byte sequences).
size_t utf8_character_size(std::string_view text);

/// The text with the letters A to Z in lower case, whatever the locale.
std::string to_lower_ascii(std::string_view text);

/// "1.53 GB"; powers of ten.
std::string readable_bytes(int64_t bytes);

/// `seconds` as people write it: 42s, 3m07s, 5h02m.
std::string duration_text(double seconds);

/// "134.5 M".
std::string readable_count(int64_t count);

}  // namespace temper
