// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "io/file.h"

namespace temper {

using Json = nlohmann::json;

/// Where a JSON text comes from, for messages.
struct JsonOrigin {
  std::string name;  ///< Usually the file.
  FilePurpose purpose = FilePurpose::kModel;
};

/// Parses one JSON text, strictly: a key that occurs twice in an object, text that is not UTF-8,
/// nesting deeper than 128, numbers too big for a double and anything after the value are errors.
///
/// Throws: the Error of `origin.purpose`, with the name and the line and column, or the key.
Json parse_json(std::string_view text, const JsonOrigin& origin);

/// The object that a line is; null if it is none, such as a line that a killed job left torn.
Json object_or_null(const std::string& line);

/// A value for a message: JSON in ASCII, of bounded length.
std::string shown(const Json& value);

/// The same as parse_json for a file.
Json read_json(const std::filesystem::path& path, FilePurpose purpose);

/// Parses a text whose value is an object, and hands over its members one by one instead of keeping
/// them: huge objects take no more memory than their largest member and all their keys.
void for_each_member(std::string_view text, const JsonOrigin& origin,
                     const std::function<void(const std::string& key, const Json& value)>& visit);

}  // namespace temper
