// SPDX-License-Identifier: Apache-2.0
#include "config/key_table.h"
#include "core/concat.h"

namespace temper {
namespace {

using Ordered = nlohmann::ordered_json;  // As the keys are told, not as the alphabet has them.

bool needs_keys(const KeyEntry& entry) {
  for (const KeyEntry& one : entry.below) {
    if (one.is_required || (one.kind == KeyEntry::Kind::kSection && needs_keys(one))) return true;
  }
  return false;
}

Ordered schema_of(const KeyEntry& entry);

// A section that needs no key may be empty, which YAML has as null.
Ordered schema_of_section(const KeyEntry& entry) {
  Ordered schema;
  const bool needs = needs_keys(entry);
  schema["type"] = needs ? Ordered("object") : Ordered({"object", "null"});
  Ordered required = Ordered::array();
  for (const KeyEntry& one : entry.below) {
    if (one.is_required || (one.kind == KeyEntry::Kind::kSection && needs_keys(one))) {
      required.push_back(one.key);
    }
  }
  if (needs) schema["required"] = required;
  schema["additionalProperties"] = false;
  for (const KeyEntry& one : entry.below) schema["properties"][one.key] = schema_of(one);
  return schema;
}

// A text may look like a number; a name of a few is none.
Ordered schema_of_value(const KeyEntry& entry) {
  Ordered schema;
  switch (entry.kind) {
    case KeyEntry::Kind::kInteger: schema["type"] = "integer"; break;
    case KeyEntry::Kind::kReal: schema["type"] = "number"; break;
    case KeyEntry::Kind::kFlag: schema["type"] = "boolean"; break;
    default:
      if (!entry.range.contains("enum")) schema["type"] = {"string", "number", "boolean"};
  }
  for (const auto& [keyword, value] : entry.range.items()) schema[keyword] = value;
  return schema;
}

Ordered schema_of(const KeyEntry& entry) {
  Ordered schema;
  const std::string unit = entry.unit.empty() ? "" : " (" + entry.unit + ")";
  schema["description"] = entry.expected.empty() ? entry.sentence
                                                 : concat(entry.sentence, " Set ",
                                                          entry.has_many ? "each of them" : "it",
                                                          " to ", entry.expected, unit, ".");
  if (entry.kind == KeyEntry::Kind::kList) {
    schema["type"] = "array";
    schema["items"] = schema_of_section(entry);
  } else if (entry.kind == KeyEntry::Kind::kSection) {
    schema.update(schema_of_section(entry));
  } else if (entry.has_many) {
    const Ordered one = schema_of_value(entry);
    schema["anyOf"] = {one, {{"type", "array"}, {"items", one}}};
  } else {
    schema.update(schema_of_value(entry));
  }
  if (!entry.default_value.is_null()) schema["default"] = entry.default_value;
  return schema;
}

}  // namespace

std::string options_schema(const KeyEntry& table) {
  Ordered schema = {{"$schema", "https://json-schema.org/draft/2020-12/schema"},
                    {"title", "A configuration of temper"}};
  schema.update(schema_of_section(table));
  return schema.dump(2) + "\n";
}

}  // namespace temper
