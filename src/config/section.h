// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "config/document.h"
#include "config/problem.h"

namespace temper {

/// Which numbers an option takes.
template <typename T>
struct Rule {
  T least;
  T most;                ///< The greatest number of the type: there is no such bound.
  const char* expected;  ///< Completes "set it to …".
  bool is_above_least = false;
  bool is_below_most = false;

  constexpr bool accepts(T number) const {
    return (is_above_least ? number > least : number >= least) &&
           (is_below_most ? number < most : number <= most);
  }
};

/// Which texts an option takes.
struct TextRule {
  bool (*is_fine)(const std::string&) = nullptr;
  std::string expected = {};            ///< Completes "set it to …".
  std::string pattern = {};             ///< The same as a regular expression of ECMAScript.
  std::vector<std::string> names = {};  ///< Instead: all that there are.

  bool accepts(const std::string& text) const {
    return names.empty() ? is_fine(text)
                         : std::find(names.begin(), names.end(), text) != names.end();
  }
};

/// What is told of a key: one sentence, and the unit of a number that has one.
struct KeyHelp {
  const char* sentence;
  const char* unit = "";
};

/// One spelling of an enumerator.
template <typename E>
struct Choice {
  const char* name;
  E value;
};

/// What reading a document finds out, for all its sections.
struct Reading {
  struct UnknownKey {
    std::string section, key;
    int line = kCommandLine;
    std::vector<std::string> known;  // Of that section.
  };

  std::vector<Problem> problems;
  std::map<std::string, int> lines;      ///< Of each option that is set.
  std::vector<std::string> known_names;  ///< Of all options, whole: "train.max_steps".
  std::vector<UnknownKey> unknown_keys;
};

/// "(line 3)", or "(command line)".
std::string place_of(int line);

/// Turns the unknown keys into problems. Call it once all sections have been read: a key that
/// belongs into another section is recognised.
void report_unknown_keys(Reading& reading);

/// Reads one section of a document into an option struct.
///
/// Each function takes the key's help, which SectionWriter and KeyCollector are called with, too:
/// what has none is not read. It overwrites `value` if the key is there; otherwise `value` is the
/// default, and a default that breaks the rule makes the key a required one. Problems are
/// collected, not thrown.
class Section {
 public:
  /// `node` may be nullptr for a section that is not there. `name` is "" for the root.
  Section(const YamlNode* node, std::string name, Reading& reading);

  template <std::integral T>
  void integer(const char* key, T& value, Rule<int64_t> rule, KeyHelp) {
    int64_t wide = static_cast<int64_t>(value);
    read_number(key, wide, rule);
    value = static_cast<T>(wide);  // The rules of narrow options keep within them.
  }
  void real(const char* key, double& value, Rule<double> rule, KeyHelp) {
    read_number(key, value, rule);
  }
  /// The same for an option that has no default and may be left out.
  void real_or_none(const char* key, double& value, Rule<double> rule, KeyHelp);
  /// The same where 0 is a value.
  void real_or_none(const char* key, std::optional<double>& value, Rule<double> rule, KeyHelp);
  void flag(const char* key, bool& value, KeyHelp);
  void text(const char* key, std::string& value, const TextRule& rule, KeyHelp);

  /// A list such as [a, b]; one value alone is a list of one.
  void texts(const char* key, std::vector<std::string>& values, const TextRule& rule, KeyHelp);
  void integers(const char* key, std::vector<int64_t>& values, Rule<int64_t> rule, KeyHelp);

  template <typename E, size_t kCount>
  void choice(const char* key, E& value, const Choice<E> (&choices)[kCount], KeyHelp) {
    std::vector<std::string> names;
    for (const Choice<E>& one : choices) names.push_back(one.name);
    const std::optional<size_t> index = read_choice(key, names);
    if (index) value = choices[*index].value;
  }

  /// `read` is called with the Section below `key`, present or not.
  template <typename Read>
  void section(const char* key, KeyHelp, Read read) {
    Section below(find(key), name_of(key), reading_);
    read(below);
    below.reject_unknown_keys();
  }

  /// A list of sections; `read` is called with (Section&, T&) for each.
  template <typename T, typename Read>
  void list(const char* key, std::vector<T>& values, KeyHelp, Read read) {
    const YamlNode* node = find_list(key);
    if (node == nullptr) return;
    values.clear();
    for (const YamlNode& item : node->items) {
      Section below(&item, name_of(key) + "[" + std::to_string(values.size()) + "]", reading_);
      read(below, values.emplace_back());
      below.reject_unknown_keys();
    }
  }

  void reject_unknown_keys();

 private:
  std::string name_of(const std::string& key) const;
  const YamlNode* find(const std::string& key);
  const YamlNode* find_list(const std::string& key);
  const YamlNode* find_scalar(const char* key, const std::string& expected, bool may_be_absent);
  template <typename T>
  void read_number(const char* key, T& value, Rule<T> rule);
  template <typename T, typename Read>
  void read_values(const char* key, std::vector<T>& values, const std::string& expected, Read read);
  std::optional<size_t> read_choice(const char* key, const std::vector<std::string>& names);
  void refuse(const char* key, const YamlNode& node, const std::string& remedy);

  const YamlNode* node_;  // A map, or nullptr.
  std::string name_;
  Reading& reading_;
  bool is_broken_ = false;  // What is missing from it is not missed.
  std::vector<std::string> known_keys_;
};

}  // namespace temper
