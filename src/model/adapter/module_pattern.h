// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bitset>
#include <memory>
#include <string>

namespace temper {

/// A regular expression for paths of modules, with the meaning that Python's `re` gives to it.
///
/// Understood are characters, classes, groups, alternatives, quantifiers, anchors, \b, and looking
/// ahead and back. What would need a search (references back to groups, conditions, possessive
/// quantifiers) and flags are refused, and so is whatever `re` refuses. Patterns come from files of
/// others, so there are bounds: on the pattern's length and nesting when it is read, and on the
/// work when it is compared, which goes from set of positions to set of positions and never tries
/// one way after another.
class ModulePattern {
 public:
  /// `option` says in messages where the pattern stands. Throws: OptionError.
  ModulePattern(const std::string& pattern, const std::string& option);
  ModulePattern(ModulePattern&&) noexcept;
  ~ModulePattern();

  /// Whether it is for the whole path, as re.fullmatch. Throws: OptionError after too much work.
  bool fits(const std::string& path) const;

  /// Whether it is for the whole path or for all that follows one of its dots.
  bool fits_end_of(const std::string& path) const;

  static constexpr size_t kLongestPath = 255;
  using Positions = std::bitset<kLongestPath + 1>;  ///< Between characters, from 0 on.
  struct Node;                                      ///< A part of the expression.

 private:
  bool leads_to_end(const std::string& path, const Positions& starts) const;

  std::string pattern_;
  std::string option_;
  std::unique_ptr<const Node> root_;
};

}  // namespace temper
