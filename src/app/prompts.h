// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace temper {

/// Reads prompts of token ids: a list such as "1,22,7", or the path of a file with one such list a
/// line, or "-" for standard input. Empty lines are passed over.
/// Throws: ConfigError, naming the line and what is no token id.
std::vector<std::vector<int64_t>> read_prompts(const std::string& source);

}  // namespace temper
