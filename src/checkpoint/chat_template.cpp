// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/chat_template.h"

#include <array>
#include <system_error>

#include "core/concat.h"
#include "core/error.h"
#include "core/hash.h"
#include "io/file.h"
#include "io/json.h"

namespace temper {
namespace fs = std::filesystem;
namespace {

constexpr const char* kTemplateKey = "chat_template";
constexpr std::array kNames = {"default", "tool_use"};

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

[[noreturn]] void refuse(const fs::path& path) {
  throw ModelError(
      concat(path.string(), ": chat_template is neither a text nor a list of names and texts"),
      "copy the file again from where the model comes from");
}

// The list's entry of this name; nullptr if it has none.
const Json* find_named(const Json& list, const std::string& name, const fs::path& path) {
  const Json* found = nullptr;
  for (const Json& item : list) {
    if (!item.is_object() || !item.contains("name") || !item.contains("template") ||
        !item["template"].is_string()) {
      refuse(path);
    }
    if (item["name"] == name) found = &item["template"];
  }
  return found;
}

std::vector<std::string> sha256s_in_config(const fs::path& path) {
  const std::string text = read_file(path, FilePurpose::kModel);
  if (text.find(kTemplateKey) == std::string::npos) return {};
  const Json config = parse_json(text, {path.string(), FilePurpose::kModel});
  if (!config.is_object() || !config.contains(kTemplateKey) || config[kTemplateKey].is_null())
    return {};
  const Json& value = config[kTemplateKey];
  if (value.is_string()) return {to_hex(sha256(value.get<std::string>()))};
  if (!value.is_array()) refuse(path);
  std::vector<std::string> sha256s;
  for (const char* name : kNames) {
    const Json* named = find_named(value, name, path);
    if (named != nullptr) sha256s.push_back(to_hex(sha256(named->get<std::string>())));
  }
  return sha256s;
}

}  // namespace

std::vector<std::string> chat_template_sha256s(const fs::path& folder) {
  const fs::path own = folder / "chat_template.jinja";
  const fs::path config = folder / "tokenizer_config.json";
  if (!is_there(own)) {
    return is_there(config) ? sha256s_in_config(config) : std::vector<std::string>();
  }
  std::vector<std::string> sha256s = {to_hex(sha256(read_file(own, FilePurpose::kModel)))};
  const fs::path with_tools = folder / "additional_chat_templates" / "tool_use.jinja";
  if (is_there(with_tools)) {
    sha256s.push_back(to_hex(sha256(read_file(with_tools, FilePurpose::kModel))));
  }
  return sha256s;
}

}  // namespace temper
