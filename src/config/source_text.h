// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "config/problem.h"

namespace temper {

/// A configuration file of more bytes is refused before anything is parsed.
inline constexpr size_t kLargestConfigBytes = 512 * 1024;

/// The bytes of a configuration file, without a byte order mark.
///
/// Throws: ConfigError if the path is no regular file that can be read, or is too large.
std::string read_config_file(const std::string& path);

/// What keeps a text from being YAML before its grammar is looked at: bytes that are not UTF-8,
/// control characters, tabs as indentation. Empty if all is well; otherwise the first, with its
/// line and column.
std::vector<Problem> find_text_problems(std::string_view text);

}  // namespace temper
