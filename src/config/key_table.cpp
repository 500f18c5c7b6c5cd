// SPDX-License-Identifier: Apache-2.0
#include "config/key_table.h"

#include <algorithm>
#include <limits>

#include "config/run_config_keys.h"
#include "core/concat.h"
#include "core/error.h"

namespace temper {
namespace {

template <typename T>
Json range_of(const Rule<T>& rule) {
  Json range = {{rule.is_above_least ? "exclusiveMinimum" : "minimum", rule.least}};
  if (rule.most < std::numeric_limits<T>::max()) {
    range[rule.is_below_most ? "exclusiveMaximum" : "maximum"] = rule.most;
  }
  return range;
}

Json range_of(const TextRule& rule) {
  if (!rule.names.empty()) return {{"enum", rule.names}};
  if (rule.pattern.empty()) return Json::object();
  Json range{{"pattern", rule.pattern}};
  // YAML's `true` is a text, too, where the reader wants one.
  if (!rule.accepts("true")) range["type"] = {"string", "number"};
  return range;
}

// A value that its rule refuses is no default: the key is required.
template <typename T, typename R>
void set_value(KeyEntry& entry, const T& value, const R& rule) {
  entry.is_required = !rule.accepts(value);
  if (!entry.is_required) entry.default_value = value;
  entry.expected = rule.expected;
  entry.range = range_of(rule);
}

template <typename T, typename R>
void set_values(KeyEntry& entry, const std::vector<T>& values, const R& rule) {
  entry.has_many = true;
  entry.default_value = values;
  entry.expected = rule.expected;
  entry.range = range_of(rule);
}

void append_paths(const KeyEntry& entry, std::vector<std::string>& paths) {
  if (!entry.path.empty()) paths.push_back(entry.path);
  for (const KeyEntry& one : entry.below) append_paths(one, paths);
}

std::string without_brackets(std::string path) {
  for (size_t at = path.find("[]"); at != std::string::npos; at = path.find("[]")) {
    path.erase(at, 2);
  }
  return path;
}

const KeyEntry* find_below(const KeyEntry& entry, const std::string& path) {
  if (without_brackets(entry.path) == path) return &entry;
  for (const KeyEntry& one : entry.below) {
    if (const KeyEntry* found = find_below(one, path)) return found;
  }
  return nullptr;
}

}  // namespace

void KeyCollector::real(const char* key, double value, Rule<double> rule, KeyHelp help) {
  set_value(add(key, KeyEntry::Kind::kReal, help), value, rule);
}

void KeyCollector::real_or_none(const char* key, double, Rule<double> rule, KeyHelp help) {
  real_or_none(key, std::optional<double>(), rule, help);
}

void KeyCollector::real_or_none(const char* key, const std::optional<double>&, Rule<double> rule,
                                KeyHelp help) {
  KeyEntry& entry = add(key, KeyEntry::Kind::kReal, help);
  entry.expected = rule.expected;
  entry.range = range_of(rule);
}

void KeyCollector::flag(const char* key, bool value, KeyHelp help) {
  KeyEntry& entry = add(key, KeyEntry::Kind::kFlag, help);
  entry.default_value = value;
  entry.expected = "true or false";
}

void KeyCollector::text(const char* key, const std::string& value, const TextRule& rule,
                        KeyHelp help) {
  set_value(add(key, KeyEntry::Kind::kText, help), value, rule);
}

void KeyCollector::texts(const char* key, const std::vector<std::string>& values,
                         const TextRule& rule, KeyHelp help) {
  set_values(add(key, KeyEntry::Kind::kText, help), values, rule);
}

void KeyCollector::integers(const char* key, const std::vector<int64_t>& values, Rule<int64_t> rule,
                            KeyHelp help) {
  set_values(add(key, KeyEntry::Kind::kInteger, help), values, rule);
}

KeyEntry& KeyCollector::add(const char* key, KeyEntry::Kind kind, KeyHelp help) {
  const std::string above =
      section_.path.empty()
          ? ""
          : section_.path + (section_.kind == KeyEntry::Kind::kList ? "[]." : ".");
  return section_.below.emplace_back(KeyEntry{
      .key = key, .path = above + key, .kind = kind, .unit = help.unit, .sentence = help.sentence});
}

void KeyCollector::add_integer(const char* key, int64_t value, Rule<int64_t> rule, KeyHelp help) {
  set_value(add(key, KeyEntry::Kind::kInteger, help), value, rule);
}

void KeyCollector::add_choice(const char* key, const std::string& chosen,
                              const std::vector<std::string>& names, KeyHelp help) {
  KeyEntry& entry = add(key, KeyEntry::Kind::kText, help);
  entry.default_value = chosen;
  entry.expected = "one of: " + joined(names);
  entry.range = {{"enum", names}};
}

KeyEntry key_table() {
  KeyEntry table;
  KeyCollector root(table);
  RunConfig defaults;
  visit_keys(root, defaults);
  return table;
}

const KeyEntry& find_key(const KeyEntry& table, const std::string& path) {
  if (const KeyEntry* found = find_below(table, without_brackets(path))) return *found;
  std::vector<std::string> paths;
  append_paths(table, paths);
  std::vector<std::string> sections;
  for (const KeyEntry& one : table.below) sections.push_back(one.key);
  const std::string near = nearest_name(path, paths);
  throw ConfigError(concat("there is no option ", quote(path)),
                    concat(near.empty() ? "" : near + "; ", "one of: ", joined(sections)));
}

std::string type_name(const KeyEntry& entry) {
  const auto plain = [&]() -> std::string {
    switch (entry.kind) {
      case KeyEntry::Kind::kSection: return "section";
      case KeyEntry::Kind::kList: return "list of sections";
      case KeyEntry::Kind::kInteger: return "integer";
      case KeyEntry::Kind::kReal: return "number";
      case KeyEntry::Kind::kFlag: return "boolean";
      case KeyEntry::Kind::kText: return "text";
    }
    throw std::logic_error("a key of no kind");
  };
  return entry.has_many ? "list of " + plain() + "s" : plain();
}

}  // namespace temper
