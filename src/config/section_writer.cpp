// SPDX-License-Identifier: Apache-2.0
#include "config/section_writer.h"

#include "config/number.h"
#include "config/problem.h"
#include "core/concat.h"

namespace temper {
namespace {

// A double-quoted YAML scalar: the only kind that can hold any text. Control characters cannot get
// here: neither a file nor the command line may have them.
std::string in_quotes(std::string_view text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    result += c;
  }
  return result + '"';
}

}  // namespace

void SectionWriter::real(const char* key, double value, Rule<double>, KeyHelp) {
  line(key, shortest_text(value));
}

void SectionWriter::text(const char* key, const std::string& value, const TextRule&, KeyHelp) {
  line(key, in_quotes(value));
}

void SectionWriter::texts(const char* key, const std::vector<std::string>& values, const TextRule&,
                          KeyHelp) {
  std::vector<std::string> quoted;
  for (const std::string& value : values) quoted.push_back(in_quotes(value));
  line(key, "[" + joined(quoted) + "]");
}

void SectionWriter::integers(const char* key, const std::vector<int64_t>& values, Rule<int64_t>,
                             KeyHelp) {
  std::vector<std::string> numbers;
  for (const int64_t value : values) numbers.push_back(std::to_string(value));
  line(key, "[" + joined(numbers) + "]");
}

void SectionWriter::line(std::string_view key, std::string_view value) {
  std::string indentation(static_cast<size_t>(2 * depth_), ' ');
  if (begins_item_) indentation.replace(indentation.size() - 2, 2, "- ");
  begins_item_ = false;
  yaml_ += concat(indentation, key, ": ", value, "\n");
}

void SectionWriter::open(std::string_view key, std::string_view value) {
  yaml_ += concat(std::string(static_cast<size_t>(2 * depth_), ' '), key, ":", value, "\n");
  ++depth_;
}

}  // namespace temper
