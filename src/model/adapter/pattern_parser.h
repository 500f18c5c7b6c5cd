// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bitset>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "model/adapter/module_pattern.h"

namespace temper {

/// ASCII, and one code for all else: paths of modules are ASCII.
using CharacterSet = std::bitset<129>;

inline size_t code_of(char c) {
  const auto code = static_cast<unsigned char>(c);
  return code < 128 ? code : 128;
}

bool is_word_character(char c);

struct ModulePattern::Node {
  enum class Kind {
    kCharacter,  ///< One of `characters`.
    kSequence,
    kAlternatives,
    kRepeat,  ///< The child, `least` to `most` times.
    kBegin,
    kEnd,
    kWordBorder,
    kNoWordBorder,
    kAhead,
    kNotAhead,
    kBehind,  ///< The child has one width, as `re` demands.
    kNotBehind,
  };
  static constexpr int64_t kEndless = std::numeric_limits<int64_t>::max();

  Kind kind = Kind::kSequence;
  CharacterSet characters = {};
  std::vector<Node> children = {};
  int64_t least = 1;
  int64_t most = 1;
};

/// What is wrong with a pattern.
class PatternProblem : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Reads a pattern as Python's `re` does. Throws: PatternProblem.
/// Source: Python 3.11, Lib/re/_parser.py.
ModulePattern::Node parse_pattern(std::string_view pattern);

}  // namespace temper
