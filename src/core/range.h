// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>

namespace temper {

/// A half-open interval of indices.
struct Range {
  int64_t begin = 0;
  int64_t end = 0;

  int64_t size() const { return end - begin; }
  bool is_empty() const { return end <= begin; }

  friend bool operator==(const Range&, const Range&) = default;
};

/// What two ranges share; an empty range where they do not meet.
inline Range intersection(Range a, Range b) {
  const int64_t begin = std::max(a.begin, b.begin);
  return {begin, std::max(begin, std::min(a.end, b.end))};
}

}  // namespace temper
