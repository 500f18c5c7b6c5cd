// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <set>
#include <utility>

#include "config/document.h"
#include "config/run_config_keys.h"
#include "config/source_text.h"
#include "core/concat.h"

namespace temper {
namespace {

YamlNode parse_document(const std::string& yaml, std::vector<Problem>& problems) {
  YamlNode root = parse_yaml(yaml, problems);
  if (root.kind == YamlNode::Kind::kNothing) {
    problems.push_back({"the document is empty", "write the options of the run"});
    root.kind = YamlNode::Kind::kRefused;
  }
  return root;
}

void override_values(YamlNode& root, const std::vector<std::string>& overrides,
                     std::vector<Problem>& problems) {
  std::set<std::string> keys;
  for (const std::string& one : overrides) {
    if (!keys.insert(one.substr(0, one.find('='))).second) {
      problems.push_back({quote(one) + " (command line) is set twice", "keep one of them"});
    }
    override_value(root, one, problems);
  }
}

// Appends the contradictions whose options could all be read, with the lines of those options.
void add_contradictions(const std::vector<Problem>& found, Reading& reading) {
  const std::vector<Problem> broken = reading.problems;
  const auto is_broken = [&](const std::string& key) {
    return std::any_of(broken.begin(), broken.end(), [&](const Problem& problem) {
      return std::any_of(problem.keys.begin(), problem.keys.end(), [&](const std::string& name) {
        return key == name || key.starts_with(name + ".") || name.starts_with(key + "[");
      });
    });
  };
  for (Problem problem : found) {
    if (std::any_of(problem.keys.begin(), problem.keys.end(), is_broken)) continue;
    std::vector<std::string> places;
    for (const std::string& key : problem.keys) {
      const auto line = reading.lines.find(key);
      if (line != reading.lines.end()) places.push_back(place_of(line->second));
    }
    if (!places.empty()) problem.what += " " + joined(places);
    reading.problems.push_back(std::move(problem));
  }
}

RunConfigReport read_document(const YamlNode& document, Reading reading, const std::string& name) {
  RunConfigReport report;
  if (document.kind != YamlNode::Kind::kRefused) {
    Section root(&document, "", reading);
    visit_keys(root, report.config);
    root.reject_unknown_keys();
    report_unknown_keys(reading);
    add_contradictions(validate(report.config), reading);
  }
  report.problems = std::move(reading.problems);
  for (Problem& problem : report.problems) problem.what = concat(name, ": ", problem.what);
  return report;
}

}  // namespace

RunConfigReport read_run_config(const std::string& path,
                                const std::vector<std::string>& overrides) {
  Reading reading;
  YamlNode document = parse_document(read_config_file(path), reading.problems);
  override_values(document, overrides, reading.problems);
  return read_document(document, std::move(reading), path);
}

RunConfig load_run_config(const std::string& path, const std::vector<std::string>& overrides) {
  RunConfigReport report = read_run_config(path, overrides);
  throw_if_any(report.problems);
  return std::move(report.config);
}

RunConfig parse_run_config(const std::string& yaml, const std::string& name) {
  Reading reading;
  const YamlNode document = parse_document(yaml, reading.problems);
  RunConfigReport report = read_document(document, std::move(reading), name);
  throw_if_any(report.problems);
  return std::move(report.config);
}

std::string to_yaml(const RunConfig& config) {
  SectionWriter writer;
  RunConfig copy = config;
  visit_keys(writer, copy);
  return writer.yaml();
}

}  // namespace temper
