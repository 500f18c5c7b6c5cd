// SPDX-License-Identifier: Apache-2.0
#include "app/prompts.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iostream>
#include <limits>
#include <optional>

#include "config/number.h"
#include "config/problem.h"
#include "core/concat.h"
#include "core/error.h"

namespace temper {
namespace {

std::optional<int64_t> parse_token(std::string_view text) {
  while (text.starts_with(' ')) text.remove_prefix(1);
  while (text.ends_with(' ') || text.ends_with('\r')) text.remove_suffix(1);
  const std::optional<int64_t> token = parse_integer(text).value;
  return token && *token >= 0 && *token <= std::numeric_limits<int32_t>::max() ? token
                                                                               : std::nullopt;
}

std::vector<int64_t> parse_prompt(const std::string& line, const std::string& where) {
  std::vector<int64_t> tokens;
  for (size_t begin = 0; begin <= line.size();) {
    const size_t end = std::min(line.find(',', begin), line.size());
    const std::string text = line.substr(begin, end - begin);
    const std::optional<int64_t> token = parse_token(text);
    if (!token) {
      throw ConfigError(concat(where, ": ", quote(text), " is no token id"),
                        "write token ids with commas between them, such as 1,22,7");
    }
    tokens.push_back(*token);
    begin = end + 1;
  }
  return tokens;
}

std::vector<std::vector<int64_t>> read_lines(std::istream& stream, const std::string& name) {
  std::vector<std::vector<int64_t>> prompts;
  int number = 0;
  for (std::string line; std::getline(stream, line);) {
    ++number;
    if (line.find_first_not_of(" \r") == std::string::npos) continue;
    prompts.push_back(parse_prompt(line, concat(name, ", line ", number)));
  }
  if (prompts.empty()) throw ConfigError(name + " has no prompt", "write one prompt a line");
  return prompts;
}

bool is_list(const std::string& source) {
  return !source.empty() && source.find_first_not_of("0123456789, ") == std::string::npos;
}

}  // namespace

std::vector<std::vector<int64_t>> read_prompts(const std::string& source) {
  if (source == "-") return read_lines(std::cin, "standard input");
  if (is_list(source)) return {parse_prompt(source, "the prompt")};
  std::ifstream file(source);
  if (!file) {
    throw ConfigError(
        concat("the prompts ", quote(source), " cannot be read: ", std::strerror(errno)),
        "give token ids such as 1,22,7, a file with one such list a line, or -");
  }
  return read_lines(file, source);
}

}  // namespace temper
