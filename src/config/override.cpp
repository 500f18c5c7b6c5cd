// SPDX-License-Identifier: Apache-2.0
#include <optional>
#include <utility>

#include "config/document.h"
#include "core/concat.h"

namespace temper {
namespace {

void mark_as_command_line(YamlNode& node) {
  node.line = kCommandLine;
  for (YamlNode& item : node.items) mark_as_command_line(item);
  for (YamlNode::Entry& entry : node.entries) {
    entry.line = kCommandLine;
    mark_as_command_line(entry.value);
  }
}

// "a.b" to {"a", "b"}; nothing if a part is empty or no name.
std::optional<std::vector<std::string>> split_path(std::string_view path) {
  std::vector<std::string> parts(1);
  for (const char c : path) {
    const bool is_name = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
    if (c != '.' && !is_name) return std::nullopt;
    if (c == '.') {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  for (const std::string& part : parts) {
    if (part.empty()) return std::nullopt;
  }
  return parts;
}

YamlNode& child(YamlNode& map, const std::string& key) {
  for (YamlNode::Entry& entry : map.entries) {
    if (entry.key == key) return entry.value;
  }
  return map.entries.emplace_back(YamlNode::Entry{key, kCommandLine, {}}).value;
}

YamlNode parse_value(const std::string& text, const std::string& assignment,
                     std::vector<Problem>& problems) {
  std::vector<Problem> found;
  YamlNode value = parse_yaml(text, found);
  mark_as_command_line(value);
  for (Problem& problem : found) {
    problem.what = concat(quote(assignment), " (command line): ", problem.what);
    problems.push_back(std::move(problem));
  }
  return value;
}

}  // namespace

void override_value(YamlNode& root, const std::string& assignment, std::vector<Problem>& problems) {
  const size_t equals = assignment.find('=');
  const auto path = split_path(std::string_view(assignment).substr(0, equals));
  if (equals == std::string::npos || !path) {
    problems.push_back({concat(quote(assignment), " (command line) is no override"),
                        "write section.key=value, such as train.max_steps=10"});
    return;
  }
  YamlNode* node = &root;
  for (const std::string& part : *path) {
    if (node->kind == YamlNode::Kind::kNothing) node->kind = YamlNode::Kind::kMap;
    if (node->kind == YamlNode::Kind::kRefused) return;
    if (node->kind != YamlNode::Kind::kMap) {
      problems.push_back(
          {concat(quote(assignment), " (command line) goes into a value that is no section"),
           "override the whole value, a list as key=[{path: a}, {path: b}]"});
      return;
    }
    node = &child(*node, part);
  }
  *node = parse_value(assignment.substr(equals + 1), assignment, problems);
}

}  // namespace temper
