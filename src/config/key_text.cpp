// SPDX-License-Identifier: Apache-2.0
#include "config/key_table.h"
#include "config/number.h"
#include "core/concat.h"

namespace temper {
namespace {

bool has_keys(const KeyEntry& entry) {
  return entry.kind == KeyEntry::Kind::kSection || entry.kind == KeyEntry::Kind::kList;
}

std::string text_of(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_float()) return shortest_text(value.get<double>());
  return value.dump();
}

std::string range_text(const KeyEntry& entry) {
  return concat(entry.has_many ? "each " : "", entry.expected,
                entry.unit.empty() ? "" : " (" + entry.unit + ")");
}

std::string default_note(const KeyEntry& entry) {
  if (entry.is_required) return "required";
  const std::string text = default_text(entry);
  return text.empty() ? "none" : text;
}

// In a table of Markdown a bar would end the cell.
std::string cell(const std::string& text) {
  std::string result;
  for (const char c : text) result += c == '|' ? std::string("\\|") : std::string(1, c);
  return result;
}

void append_table(const KeyEntry& section, std::string& page) {
  page +=
      concat("\n## `", section.path, section.kind == KeyEntry::Kind::kList ? "[]" : "", "`\n\n",
             section.sentence, "\n\n| key | type | default | range | |\n|---|---|---|---|---|\n");
  for (const KeyEntry& entry : section.below) {
    if (has_keys(entry)) continue;
    const std::string note = default_note(entry);
    const bool is_word = note == "required" || note == "none";
    const std::string mark = is_word ? "" : "`";
    page += concat("| `", entry.key, "` | ", type_name(entry), " | ", mark, note, mark, " | ");
    page += concat(cell(range_text(entry)), " | ", cell(entry.sentence), " |\n");
  }
  for (const KeyEntry& entry : section.below) {
    if (has_keys(entry)) append_table(entry, page);
  }
}

}  // namespace

std::string default_text(const KeyEntry& entry) {
  if (entry.default_value.is_null()) return "";
  if (entry.default_value.is_string() && entry.default_value.get<std::string>().empty()) {
    return "\"\"";
  }
  if (!entry.default_value.is_array()) return text_of(entry.default_value);
  std::vector<std::string> parts;
  for (const Json& one : entry.default_value) parts.push_back(text_of(one));
  return "[" + joined(parts) + "]";
}

std::string options_text(const KeyEntry& entry) {
  std::string text;
  if (has_keys(entry)) {
    if (!entry.path.empty()) {
      text += concat(entry.path, entry.kind == KeyEntry::Kind::kList ? "[]" : "", ": ",
                     entry.sentence, "\n");
    }
    for (const KeyEntry& one : entry.below) text += options_text(one);
    return text;
  }
  const std::string value = default_text(entry);
  const std::string note = entry.is_required ? " (required)" : value.empty() ? " (no default)" : "";
  return concat(entry.path, value.empty() ? "" : "=", value, note, "\n  ", type_name(entry), ": ",
                range_text(entry), "\n  ", entry.sentence, "\n");
}

std::string options_markdown(const KeyEntry& table) {
  std::string page =
      "# The keys of a configuration\n\n"
      "Made by `temper options --markdown`; `temper options [SECTION]` prints the same on a "
      "terminal, and\n`temper schema` as a JSON Schema: `temper.schema.json`, which an editor that "
      "knows the first line of the\nexamples here completes and checks them by. Each option can be "
      "set on the command line, as\n`train.max_steps=10`. A range that ends in a unit in brackets "
      "counts in it.\n";
  page += "\n| key | type | default | range | |\n|---|---|---|---|---|\n";
  for (const KeyEntry& entry : table.below) {
    if (has_keys(entry)) {
      page += concat("| [`", entry.key, "`](#", entry.key, ") | section | | | ",
                     cell(entry.sentence), " |\n");
    } else {
      page += concat("| `", entry.key, "` | ", type_name(entry), " | `", default_text(entry),
                     "` | ", cell(range_text(entry)), " | ", cell(entry.sentence), " |\n");
    }
  }
  for (const KeyEntry& entry : table.below) {
    if (has_keys(entry)) append_table(entry, page);
  }
  return page;
}

}  // namespace temper
