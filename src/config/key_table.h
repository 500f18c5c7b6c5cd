// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "config/section.h"
#include "io/json.h"

namespace temper {

/// What there is to tell of one key of a configuration, and of those below it.
struct KeyEntry {
  enum class Kind { kSection, kList, kInteger, kReal, kFlag, kText };

  std::string key = {};   ///< "max_steps"; empty for the whole configuration.
  std::string path = {};  ///< "train.max_steps"; below a list "data.train[].path".
  Kind kind = Kind::kSection;
  bool has_many = false;        ///< Of values a list, or one alone.
  bool is_required = false;     ///< There is no default.
  Json default_value = {};      ///< null: there is none, or it is left out.
  std::string expected = {};    ///< The range in words.
  Json range = Json::object();  ///< The same in keywords of JSON Schema: minimum, enum, pattern.
  std::string unit = {};
  std::string sentence = {};
  std::vector<KeyEntry> below = {};  ///< Of a section, or of each section of a list.
};

/// Makes the table of keys out of the calls that read them: it is called like Section, with option
/// structs that have their defaults.
class KeyCollector {
 public:
  explicit KeyCollector(KeyEntry& section) : section_(section) {}

  template <std::integral T>
  void integer(const char* key, const T& value, Rule<int64_t> rule, KeyHelp help) {
    add_integer(key, static_cast<int64_t>(value), rule, help);
  }
  void real(const char* key, double value, Rule<double> rule, KeyHelp help);
  void real_or_none(const char* key, double value, Rule<double> rule, KeyHelp help);
  void real_or_none(const char* key, const std::optional<double>& value, Rule<double> rule,
                    KeyHelp help);
  void flag(const char* key, bool value, KeyHelp help);
  void text(const char* key, const std::string& value, const TextRule& rule, KeyHelp help);
  void texts(const char* key, const std::vector<std::string>& values, const TextRule& rule,
             KeyHelp help);
  void integers(const char* key, const std::vector<int64_t>& values, Rule<int64_t> rule,
                KeyHelp help);

  template <typename E, size_t kCount>
  void choice(const char* key, const E& value, const Choice<E> (&choices)[kCount], KeyHelp help) {
    std::vector<std::string> names;
    std::string chosen;
    for (const Choice<E>& one : choices) {
      if (one.value == value && chosen.empty()) chosen = one.name;
      names.emplace_back(one.name);
    }
    add_choice(key, chosen, names, help);
  }

  template <typename Tell>
  void section(const char* key, KeyHelp help, Tell tell) {
    KeyCollector below(add(key, KeyEntry::Kind::kSection, help));
    tell(below);
  }

  template <typename T, typename Tell>
  void list(const char* key, const std::vector<T>&, KeyHelp help, Tell tell) {
    KeyCollector below(add(key, KeyEntry::Kind::kList, help));
    T defaults{};
    tell(below, defaults);
  }

 private:
  KeyEntry& add(const char* key, KeyEntry::Kind kind, KeyHelp help);
  void add_integer(const char* key, int64_t value, Rule<int64_t> rule, KeyHelp help);
  void add_choice(const char* key, const std::string& chosen, const std::vector<std::string>& names,
                  KeyHelp help);

  KeyEntry& section_;
};

/// Every key of a configuration, in the order in which it is printed.
KeyEntry key_table();

/// The entry of a section or key such as "train", "train.max_steps" or "data.train.path".
/// Throws: ConfigError if there is none, with the nearest one.
const KeyEntry& find_key(const KeyEntry& table, const std::string& path);

/// "integer", "list of texts", "section".
std::string type_name(const KeyEntry& entry);

/// As one writes it: "10", "[all-linear]", or "\"\"" for an empty text; empty if there is none.
std::string default_text(const KeyEntry& entry);

/// The keys of an entry, or the entry itself, for a terminal: each as the override that sets its
/// default, then type, range and unit, then the sentence.
std::string options_text(const KeyEntry& entry);

/// All keys as a page of Markdown, one table a section.
std::string options_markdown(const KeyEntry& table);

/// A JSON Schema, draft 2020-12, of configurations: what it refuses, reading refuses. What only
/// shows when options are compared with each other, it accepts.
std::string options_schema(const KeyEntry& table);

}  // namespace temper
