// SPDX-License-Identifier: Apache-2.0
#include "model/adapter/pattern_parser.h"

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "core/concat.h"
#include "core/message_text.h"

namespace temper {
namespace {

using Node = ModulePattern::Node;
using Kind = Node::Kind;

constexpr size_t kLongestPattern = 10'000;
constexpr int kDeepest = 100;
constexpr int64_t kMostRepeats = 4'294'967'295;  // As Python.

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

CharacterSet set_of(bool (*has)(char)) {
  CharacterSet set;
  for (int code = 0; code < 128; ++code) {
    const auto at = static_cast<size_t>(code);
    set.set(at, has(static_cast<char>(code)));
  }
  return set;
}

bool is_space(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r') || (c >= '\x1c' && c <= '\x1f');
}

// Of \d and its like; nothing if the letter is none of them.
std::optional<CharacterSet> class_named(char letter) {
  switch (letter) {
    case 'd': return set_of(is_digit);
    case 'D': return ~set_of(is_digit);
    case 's': return set_of(is_space);
    case 'S': return ~set_of(is_space);
    case 'w': return set_of(is_word_character);
    case 'W': return ~set_of(is_word_character);
    default: return std::nullopt;
  }
}

Node character(size_t code) {
  Node node{.kind = Kind::kCharacter};
  node.characters.set(code);
  return node;
}

struct Width {
  int64_t least = 0;
  int64_t most = 0;
};

// In characters; more than any path has is as good as endless.
Width width_of(const Node& node) {
  constexpr int64_t kWide = 1'000'000;
  const auto times = [=](int64_t width, int64_t count) {
    return width == 0 || count == 0 ? 0 : std::min(kWide, width * std::min(count, kWide));
  };
  Width width;
  switch (node.kind) {
    case Kind::kCharacter: return {1, 1};
    case Kind::kSequence:
      for (const Node& child : node.children) {
        const Width one = width_of(child);
        width = {std::min(kWide, width.least + one.least), std::min(kWide, width.most + one.most)};
      }
      return width;
    case Kind::kAlternatives:
      width.least = kWide;
      for (const Node& child : node.children) {
        const Width one = width_of(child);
        width = {std::min(width.least, one.least), std::max(width.most, one.most)};
      }
      return width;
    case Kind::kRepeat:
      width = width_of(node.children[0]);
      return {times(width.least, node.least), times(width.most, node.most)};
    default: return {};
  }
}

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Node parse() {
    Node node = alternatives();
    if (!is_done()) refuse("a ) without its (");
    return node;
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    throw PatternProblem(concat(what, ", at character ", at_));
  }

  bool is_done() const { return at_ >= text_.size(); }
  bool is_at(char c) const { return !is_done() && text_[at_] == c; }

  bool take(std::string_view wanted) {
    if (!text_.substr(at_).starts_with(wanted)) return false;
    at_ += wanted.size();
    return true;
  }

  char next(const char* what) {
    if (is_done()) refuse(concat("it ends in ", what));
    return text_[at_++];
  }

  // One character of UTF-8.
  size_t next_code(const char* what) {
    if (is_done()) refuse(concat("it ends in ", what));
    const size_t code = code_of(text_[at_]);
    at_ += std::max<size_t>(1, utf8_character_size(text_.substr(at_)));
    return code;
  }

  Node alternatives() {
    Node node{.kind = Kind::kAlternatives};
    do {
      node.children.push_back(sequence());
    } while (take("|"));
    return node;
  }

  Node sequence() {
    Node node{.kind = Kind::kSequence};
    while (!is_done() && !is_at('|') && !is_at(')')) {
      Node part = atom();
      const bool is_anchor = part.kind >= Kind::kBegin && part.kind <= Kind::kNoWordBorder;
      node.children.push_back(quantified(std::move(part), !is_anchor));
    }
    return node;
  }

  // The numbers of {2}, {2,}, {,3} and {2,3}; nothing if it is another text in braces, which means
  // itself.
  std::optional<std::pair<int64_t, int64_t>> braces() {
    const size_t begin = at_;
    ++at_;
    const std::optional<int64_t> least = number();
    const bool is_range = take(",");
    const std::optional<int64_t> most = is_range ? number() : least;
    if (!take("}") || (!is_range && !least)) {
      at_ = begin;
      return {};
    }
    return std::pair(least.value_or(0), most.value_or(Node::kEndless));
  }

  std::optional<int64_t> number() {
    if (is_done() || !is_digit(text_[at_])) return {};
    int64_t value = 0;
    for (; !is_done() && is_digit(text_[at_]); ++at_) {
      value = value * 10 + (text_[at_] - '0');
      if (value >= kMostRepeats) refuse("a number of repeats that is too large");
    }
    return value;
  }

  std::optional<std::pair<int64_t, int64_t>> quantifier() {
    if (take("*")) return std::pair<int64_t, int64_t>(0, Node::kEndless);
    if (take("+")) return std::pair<int64_t, int64_t>(1, Node::kEndless);
    if (take("?")) return std::pair<int64_t, int64_t>(0, 1);
    if (is_at('{')) return braces();
    return {};
  }

  Node quantified(Node part, bool is_repeatable) {
    const auto counts = quantifier();
    if (!counts) return part;
    if (!is_repeatable) refuse("nothing to repeat");
    if (counts->second < counts->first) refuse("fewest repeats above most repeats");
    if (take("+")) refuse("a possessive quantifier, which is not computed here");
    take("?");  // Fewest first: the same paths fit.
    const size_t end = at_;
    if (quantifier()) refuse("a quantifier of a quantifier");
    at_ = end;
    Node node{.kind = Kind::kRepeat, .least = counts->first, .most = counts->second};
    node.children.push_back(std::move(part));
    return node;
  }

  Node atom() {
    if (take(".")) {
      Node any{.kind = Kind::kCharacter, .characters = ~CharacterSet()};
      any.characters.reset('\n');
      return any;
    }
    if (take("^")) return {.kind = Kind::kBegin};
    if (take("$")) return {.kind = Kind::kEnd};
    if (take("(")) return group();
    if (take("[")) return char_class();
    if (take("\\")) return escape();
    if (is_at('*') || is_at('+') || is_at('?')) refuse("nothing to repeat");
    if (is_at('{')) {
      if (braces()) refuse("nothing to repeat");
    }
    return character(next_code("a character"));
  }

  // After the "(".
  Node group() {
    if (++depth_ > kDeepest) refuse(concat("groups in more than ", kDeepest, " others"));
    Kind kind = Kind::kSequence;
    if (take("?")) kind = kind_of_group();
    Node inner = alternatives();
    if (!take(")")) refuse("a ( without its )");
    --depth_;
    if (kind == Kind::kSequence) return inner;
    const Width width = width_of(inner);
    if ((kind == Kind::kBehind || kind == Kind::kNotBehind) && width.least != width.most) {
      refuse("looking back for what has no one length");
    }
    Node node{.kind = kind};
    node.children.push_back(std::move(inner));
    return node;
  }

  // After the "(?".
  Kind kind_of_group() {
    if (take(":")) return Kind::kSequence;
    if (take("=")) return Kind::kAhead;
    if (take("!")) return Kind::kNotAhead;
    if (take("<=")) return Kind::kBehind;
    if (take("<!")) return Kind::kNotBehind;
    if (take("P<")) {
      take_name();
      return Kind::kSequence;
    }
    refuse("a kind of group that is not computed here");
  }

  void take_name() {
    const size_t begin = at_;
    while (!is_done() && is_word_character(text_[at_])) ++at_;
    const std::string name(text_.substr(begin, at_ - begin));
    if (name.empty() || is_digit(name[0]) || !take(">")) refuse("a group whose name is none");
    if (!names_.insert(name).second) refuse("two groups of one name");
  }

  // After the "\"; `in_class` between brackets.
  std::optional<size_t> escaped_code(char letter, bool in_class) {
    switch (letter) {
      case 'a': return code_of('\a');
      case 'f': return code_of('\f');
      case 'n': return code_of('\n');
      case 'r': return code_of('\r');
      case 't': return code_of('\t');
      case 'v': return code_of('\v');
      case 'x': return hexadecimal();
      case 'b':
        if (in_class) return code_of('\b');
        break;
      default: break;
    }
    if (is_letter(letter) || is_digit(letter)) return {};
    return code_of(letter);
  }

  size_t hexadecimal() {
    size_t value = 0;
    for (int i = 0; i < 2; ++i) {
      const char c = next("\\x");
      const size_t digit = std::string_view("0123456789abcdef").find(is_letter(c) ? c | 32 : c);
      if (digit == std::string_view::npos) refuse("\\x without two digits");
      value = value * 16 + digit;
    }
    return std::min<size_t>(value, 128);
  }

  Node escape() {
    const char letter = next("a \\");
    if (letter == 'A') return {.kind = Kind::kBegin};
    if (letter == 'Z') return {.kind = Kind::kEnd};
    if (letter == 'b') return {.kind = Kind::kWordBorder};
    if (letter == 'B') return {.kind = Kind::kNoWordBorder};
    if (const auto set = class_named(letter)) {
      return {.kind = Kind::kCharacter, .characters = *set};
    }
    const std::optional<size_t> code = escaped_code(letter, false);
    if (!code) refuse(concat('\\', letter, ", which is not computed here"));
    return character(*code);
  }

  // One character or a class such as \d.
  CharacterSet class_member(bool& is_single, size_t& code) {
    is_single = true;
    if (!take("\\")) {
      code = next_code("a [");
    } else {
      const char letter = next("a \\");
      if (const auto set = class_named(letter)) {
        is_single = false;
        return *set;
      }
      const std::optional<size_t> escaped = escaped_code(letter, true);
      if (!escaped) refuse(concat('\\', letter, " between brackets, which is not computed here"));
      code = *escaped;
    }
    return CharacterSet().set(code);
  }

  // After the "[".
  Node char_class() {
    Node node{.kind = Kind::kCharacter};
    const bool is_negated = take("^");
    for (bool is_first = true; is_first || !is_at(']'); is_first = false) {
      bool is_single = false;
      size_t low = 0;
      node.characters |= class_member(is_single, low);
      if (!is_at('-') || text_.substr(at_).starts_with("-]")) continue;
      ++at_;
      bool is_high_single = false;
      size_t high = 0;
      class_member(is_high_single, high);
      if (!is_single || !is_high_single || high < low) refuse("a range that is none");
      for (size_t code = low; code <= high; ++code) node.characters.set(code);
    }
    ++at_;
    if (is_negated) node.characters.flip();
    return node;
  }

  std::string_view text_;
  size_t at_ = 0;
  int depth_ = 0;
  std::set<std::string> names_;
};

}  // namespace

bool is_word_character(char c) { return is_letter(c) || is_digit(c) || c == '_'; }

Node parse_pattern(std::string_view pattern) {
  if (pattern.size() > kLongestPattern) {
    throw PatternProblem(
        concat("it has ", pattern.size(), " characters, and ", kLongestPattern, " are the most"));
  }
  return Parser(pattern).parse();
}

}  // namespace temper
