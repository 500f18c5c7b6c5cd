// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "config/problem.h"

namespace temper {

/// The line of what was not read from the file.
inline constexpr int kCommandLine = 0;

/// One value of a YAML document, with the line it was written on.
///
/// Only what a configuration needs: no anchors, aliases, merge keys or tags.
struct YamlNode {
  enum class Kind {
    kNothing,  ///< An empty value, or null.
    kScalar,
    kList,
    kMap,
    kRefused,  ///< Something whose problem has been reported already.
  };
  struct Entry;

  /// The value of a key of a map; nullptr if it has no such key.
  const YamlNode* find(std::string_view key) const;

  Kind kind = Kind::kNothing;
  int line = kCommandLine;  ///< From 1.
  std::string text = {};    ///< Of a scalar, as written.
  bool is_quoted = false;   ///< A scalar in quotes or a block is text, whatever it looks like.
  std::vector<YamlNode> items = {};  ///< Of a list.
  std::vector<Entry> entries;        ///< Of a map, in file order.
};

struct YamlNode::Entry {
  std::string key;
  int line = kCommandLine;
  YamlNode value;
};

/// Reads exactly one YAML document.
///
/// What yaml-cpp would let pass is a problem here: a key twice, a second document, anchors, merge
/// keys, tags, keys that are no text, deep nesting. After an error of grammar, which hides the
/// rest, the result is kRefused. Bounded: by the size of the text, by depth, by number of values.
YamlNode parse_yaml(std::string_view text, std::vector<Problem>& problems);

/// Sets the value named by `key.path=value`, where `value` is YAML. Sections that the file lacks
/// are made.
void override_value(YamlNode& root, const std::string& assignment, std::vector<Problem>& problems);

}  // namespace temper
