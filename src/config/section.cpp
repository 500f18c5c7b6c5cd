// SPDX-License-Identifier: Apache-2.0
#include "config/section.h"

#include <algorithm>

#include "config/number.h"
#include "core/concat.h"

namespace temper {
namespace {

using Kind = YamlNode::Kind;

std::string found_text(const YamlNode& node) {
  switch (node.kind) {
    case Kind::kNothing: return "has no value";
    case Kind::kList: return "is a list";
    case Kind::kMap: return "is a section";
    case Kind::kScalar:
    case Kind::kRefused: break;
  }
  return concat("is ", quote(node.text), node.is_quoted ? " in quotes" : "");
}

std::string last_part(const std::string& name) { return name.substr(name.rfind('.') + 1); }

template <typename T>
Parsed<T> parse(std::string_view text) {
  if constexpr (std::is_same_v<T, int64_t>) return parse_integer(text);
  if constexpr (std::is_same_v<T, double>) return parse_real(text);
}

// The option that was meant: one of this section with a similar name, else the same name elsewhere.
std::string meant(const Reading::UnknownKey& unknown, const std::vector<std::string>& all_names) {
  const std::string near = nearest_name(unknown.key, unknown.known);
  if (!near.empty()) return near;
  for (const std::string& name : all_names) {
    if (last_part(name) == unknown.key) return name;
  }
  return "";
}

}  // namespace

std::string place_of(int line) {
  return line == kCommandLine ? "(command line)" : concat("(line ", line, ")");
}

void report_unknown_keys(Reading& reading) {
  for (const Reading::UnknownKey& unknown : reading.unknown_keys) {
    const std::string name =
        unknown.section.empty() ? unknown.key : unknown.section + "." + unknown.key;
    const std::string guess = meant(unknown, reading.known_names);
    reading.problems.push_back({.what = concat(std::string(name.size() > 80 ? quote(name) : name),
                                               " ", place_of(unknown.line), " is not an option"),
                                .remedy = concat(guess.empty() ? "" : "write " + guess + "; ",
                                                 "one of: ", joined(unknown.known))});
  }
  reading.unknown_keys.clear();
}

Section::Section(const YamlNode* node, std::string name, Reading& reading)
    : node_(node), name_(std::move(name)), reading_(reading) {
  if (node == nullptr || node->kind == Kind::kMap) return;
  node_ = nullptr;
  if (node->kind == Kind::kNothing) return;
  is_broken_ = true;
  if (node->kind == Kind::kRefused) return;
  reading_.problems.push_back(
      {.what = name_.empty() ? concat("the document ", found_text(*node))
                             : concat(name_, " ", place_of(node->line), " ", found_text(*node)),
       .remedy = "write its options below it, indented: 'key: value'",
       .keys = {name_}});
}

template <typename T>
void Section::read_number(const char* key, T& value, Rule<T> rule) {
  const YamlNode* node = find_scalar(key, rule.expected, rule.accepts(value));
  if (node == nullptr) return;
  if (node->is_quoted) return refuse(key, *node, "write the number without quotes");
  const Parsed<T> parsed = parse<T>(node->text);
  if (parsed.value && rule.accepts(*parsed.value)) {
    value = *parsed.value;
  } else {
    refuse(key, *node, parsed.advice.empty() ? concat("set it to ", rule.expected) : parsed.advice);
  }
}

template void Section::read_number(const char*, int64_t&, Rule<int64_t>);
template void Section::read_number(const char*, double&, Rule<double>);

void Section::real_or_none(const char* key, double& value, Rule<double> rule, KeyHelp) {
  if (node_ != nullptr && node_->find(key) != nullptr) return read_number(key, value, rule);
  find(key);  // It is known all the same.
}

void Section::real_or_none(const char* key, std::optional<double>& value, Rule<double> rule,
                           KeyHelp) {
  if (node_ == nullptr || node_->find(key) == nullptr) {
    find(key);
  } else {
    read_number(key, value.emplace(), rule);
  }
}

void Section::flag(const char* key, bool& value, KeyHelp) {
  const YamlNode* node = find_scalar(key, "true or false", true);
  if (node == nullptr) return;
  if (!node->is_quoted && (node->text == "true" || node->text == "false")) {
    value = node->text == "true";
  } else {
    refuse(key, *node, "set it to true or false");
  }
}

void Section::text(const char* key, std::string& value, const TextRule& rule, KeyHelp) {
  const YamlNode* node = find_scalar(key, rule.expected, rule.accepts(value));
  if (node == nullptr) return;
  if (rule.accepts(node->text)) {
    value = node->text;
  } else {
    refuse(key, *node, concat("set it to ", rule.expected));
  }
}

// `read` turns a scalar into a value, or nothing.
template <typename T, typename Read>
void Section::read_values(const char* key, std::vector<T>& values, const std::string& expected,
                          Read read) {
  const YamlNode* node = find(key);
  if (node == nullptr || node->kind == Kind::kRefused) return;
  const std::vector<YamlNode> items =
      node->kind == Kind::kList ? node->items : std::vector<YamlNode>{*node};
  std::vector<T> found;
  for (const YamlNode& item : items) {
    const std::optional<T> value = item.kind == Kind::kScalar ? read(item) : std::optional<T>();
    if (!value) return refuse(key, item, "set it to a list, each item " + expected);
    found.push_back(*value);
  }
  values = std::move(found);
}

void Section::texts(const char* key, std::vector<std::string>& values, const TextRule& rule,
                    KeyHelp) {
  read_values(key, values, rule.expected, [&](const YamlNode& item) {
    return rule.accepts(item.text) ? std::optional(item.text) : std::nullopt;
  });
}

void Section::integers(const char* key, std::vector<int64_t>& values, Rule<int64_t> rule, KeyHelp) {
  read_values(key, values, rule.expected, [&](const YamlNode& item) {
    const Parsed<int64_t> parsed = parse<int64_t>(item.text);
    const bool is_fine = !item.is_quoted && parsed.value && rule.accepts(*parsed.value);
    return is_fine ? parsed.value : std::nullopt;
  });
}

std::optional<size_t> Section::read_choice(const char* key, const std::vector<std::string>& names) {
  const std::string expected = "one of: " + joined(names);
  const YamlNode* node = find_scalar(key, expected, true);
  if (node == nullptr) return std::nullopt;
  const auto found = std::find(names.begin(), names.end(), node->text);
  if (found != names.end()) return static_cast<size_t>(found - names.begin());
  refuse(key, *node, "set it to " + expected);
  return std::nullopt;
}

void Section::reject_unknown_keys() {
  if (node_ == nullptr) return;
  for (const YamlNode::Entry& entry : node_->entries) {
    if (std::find(known_keys_.begin(), known_keys_.end(), entry.key) != known_keys_.end()) continue;
    reading_.unknown_keys.push_back({name_, entry.key, entry.line, known_keys_});
  }
}

std::string Section::name_of(const std::string& key) const {
  return name_.empty() ? key : name_ + "." + key;
}

const YamlNode* Section::find(const std::string& key) {
  known_keys_.push_back(key);
  reading_.known_names.push_back(name_of(key));
  const YamlNode* node = node_ == nullptr ? nullptr : node_->find(key);
  if (node != nullptr) reading_.lines[name_of(key)] = node->line;
  return node;
}

const YamlNode* Section::find_list(const std::string& key) {
  const YamlNode* node = find(key);
  if (node == nullptr || node->kind == Kind::kList) return node;
  if (node->kind != Kind::kRefused) {
    refuse(key.c_str(), *node, "write a list: each item begins with '- '");
  }
  return nullptr;
}

const YamlNode* Section::find_scalar(const char* key, const std::string& expected,
                                     bool may_be_absent) {
  const YamlNode* node = find(key);
  if (node == nullptr) {
    if (!may_be_absent && !is_broken_) {
      reading_.problems.push_back({.what = name_of(key) + " is missing",
                                   .remedy = "set it to " + expected,
                                   .keys = {name_of(key)}});
    }
    return nullptr;
  }
  if (node->kind == Kind::kScalar) return node;
  if (node->kind != Kind::kRefused) refuse(key, *node, "set it to " + expected);
  return nullptr;
}

void Section::refuse(const char* key, const YamlNode& node, const std::string& remedy) {
  reading_.problems.push_back(
      {.what = concat(name_of(key), " ", place_of(node.line), " ", found_text(node)),
       .remedy = remedy,
       .keys = {name_of(key)}});
}

}  // namespace temper
