// SPDX-License-Identifier: Apache-2.0
#include "train/train_options.h"

#include <charconv>

namespace temper {

std::optional<Range> steps_in(const std::string& text) {
  const char* const end = text.data() + text.size();
  int64_t first = 0;
  const auto [middle, error] = std::from_chars(text.data(), end, first);
  if (error != std::errc() || first < 1) return {};
  if (middle == end) return Range{first, first + 1};
  if (*middle != '-') return {};
  int64_t last = 0;
  const auto [rest, other] = std::from_chars(middle + 1, end, last);
  if (other != std::errc() || rest != end || last < first) return {};
  return Range{first, last + 1};
}

}  // namespace temper
