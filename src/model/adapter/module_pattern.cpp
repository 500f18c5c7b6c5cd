// SPDX-License-Identifier: Apache-2.0
#include "model/adapter/module_pattern.h"

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include "core/concat.h"
#include "core/message_text.h"
#include "model/adapter/option_error.h"
#include "model/adapter/pattern_parser.h"

namespace temper {
namespace {

using Node = ModulePattern::Node;
using Positions = ModulePattern::Positions;

constexpr int64_t kMostWork = 200'000;  // Parts compared; real patterns need some hundreds.

class TooMuchWork : public std::runtime_error {
 public:
  TooMuchWork() : std::runtime_error("too much work") {}
};

/// Compares one path.
class Comparison {
 public:
  explicit Comparison(const std::string& path) : path_(path) {
    for (size_t i = 0; i <= path.size(); ++i) all_.set(i);
  }

  /// The positions that the part can end at, if it may begin at each of `starts`.
  Positions ends(const Node& node, const Positions& starts) {
    if (++work_ > kMostWork) throw TooMuchWork();
    switch (node.kind) {
      case Node::Kind::kCharacter: return after_character(node.characters, starts);
      case Node::Kind::kSequence: return after_all(node, starts);
      case Node::Kind::kAlternatives: return after_one(node, starts);
      case Node::Kind::kRepeat: return after_repeats(node, starts);
      case Node::Kind::kBegin: return starts & Positions(1);
      case Node::Kind::kEnd: return starts & (Positions(1) << path_.size());
      case Node::Kind::kWordBorder: return starts & borders();
      case Node::Kind::kNoWordBorder: return starts & ~borders();
      case Node::Kind::kAhead:
      case Node::Kind::kNotAhead: return looking_ahead(node, starts);
      case Node::Kind::kBehind: return starts & ends(node.children[0], all_);
      case Node::Kind::kNotBehind: return starts & ~ends(node.children[0], all_);
    }
    throw std::logic_error("a part of a pattern without a kind");
  }

 private:
  Positions after_character(const CharacterSet& characters, const Positions& starts) const {
    Positions found;
    for (size_t i = 0; i < path_.size(); ++i) {
      if (starts[i] && characters[code_of(path_[i])]) found.set(i + 1);
    }
    return found;
  }

  Positions after_all(const Node& node, Positions at) {
    for (const Node& child : node.children) {
      if (at.none()) break;
      at = ends(child, at);
    }
    return at;
  }

  Positions after_one(const Node& node, const Positions& starts) {
    Positions found;
    for (const Node& child : node.children) found |= ends(child, starts);
    return found;
  }

  Positions after_repeats(const Node& node, Positions at) {
    const Node& child = node.children[0];
    for (int64_t i = 0; i < node.least && at.any(); ++i) {
      const Positions next = ends(child, at);
      if (next == at) break;  // And so for ever.
      at = next;
    }
    Positions found = at;
    for (int64_t i = node.least; i < node.most && at.any(); ++i) {
      at = ends(child, at) & ~found;
      found |= at;
    }
    return found;
  }

  Positions looking_ahead(const Node& node, const Positions& starts) {
    Positions found;
    for (size_t i = 0; i <= path_.size(); ++i) {
      if (!starts[i]) continue;
      const bool is_there = ends(node.children[0], Positions(1) << i).any();
      found.set(i, is_there == (node.kind == Node::Kind::kAhead));
    }
    return found;
  }

  Positions borders() const {
    Positions found;
    for (size_t i = 0; i <= path_.size(); ++i) {
      const bool before = i > 0 && is_word_character(path_[i - 1]);
      const bool after = i < path_.size() && is_word_character(path_[i]);
      found.set(i, before != after);
    }
    return found;
  }

  const std::string& path_;
  Positions all_;
  int64_t work_ = 0;
};

}  // namespace

ModulePattern::ModulePattern(const std::string& pattern, const std::string& option)
    : pattern_(pattern), option_(option) {
  try {
    root_ = std::make_unique<const Node>(parse_pattern(pattern));
  } catch (const PatternProblem& problem) {
    throw OptionError(option,
                      concat("has ", quote(pattern),
                             ", which is no regular expression that is read "
                             "here: ",
                             problem.what()),
                      "escape what is meant literally, as in model\\.layers\\.0");
  }
}

ModulePattern::ModulePattern(ModulePattern&&) noexcept = default;
ModulePattern::~ModulePattern() = default;

bool ModulePattern::fits(const std::string& path) const { return leads_to_end(path, 1); }

bool ModulePattern::fits_end_of(const std::string& path) const {
  Positions starts(1);
  for (size_t i = 0; i < std::min(path.size(), kLongestPath); ++i) {
    if (path[i] == '.') starts.set(i + 1);
  }
  return leads_to_end(path, starts);
}

bool ModulePattern::leads_to_end(const std::string& path, const Positions& starts) const {
  if (path.size() > kLongestPath) throw std::invalid_argument("a module's path of such a length");
  try {
    return Comparison(path).ends(*root_, starts)[path.size()];
  } catch (const TooMuchWork&) {
    throw OptionError(
        option_, concat("has ", quote(pattern_), ", which is too much work to compare with ", path),
        "write a simpler expression, or name the modules in a list");
  }
}

}  // namespace temper
