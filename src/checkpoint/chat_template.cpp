// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/chat_template.h"

#include <array>
#include <system_error>

#include "checkpoint/companion_files.h"
#include "core/concat.h"
#include "core/error.h"
#include "core/hash.h"
#include "io/file.h"
#include "io/json.h"

namespace temper {
namespace fs = std::filesystem;
namespace {

constexpr const char* kConfig = "tokenizer_config.json";
constexpr const char* kOthers = "additional_chat_templates";
constexpr const char* kTemplateKey = "chat_template";
constexpr std::array kNames = {"default", "tool_use"};

bool has_templates(const fs::path& folder) {
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    if (it->path().extension() == ".jinja") return true;
  }
  return false;
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
  const fs::path own = folder / kChatTemplate;
  const fs::path config = folder / kConfig;
  const fs::path others = folder / kOthers;
  if (!is_there(own) && !has_templates(others)) {
    return is_there(config) ? sha256s_in_config(config) : std::vector<std::string>();
  }
  std::vector<std::string> sha256s;
  for (const fs::path& path : {own, others / "tool_use.jinja"}) {
    if (is_there(path)) sha256s.push_back(to_hex(sha256(read_file(path, FilePurpose::kModel))));
  }
  return sha256s;
}

void set_chat_template(const std::string& text, std::vector<TextFile>& files) {
  std::erase_if(files, [](const TextFile& file) {
    return file.path == kChatTemplate || file.path == "chat_template.json" ||
           file.path.starts_with(concat(kOthers, '/'));
  });
  for (TextFile& file : files) {
    const bool may_have_one =
        file.path == kConfig && file.text.find(kTemplateKey) != file.text.npos;
    if (may_have_one) file.text = without_member(file.text, kTemplateKey);
  }
  files.push_back({kChatTemplate, text});
}

std::optional<std::string> own_chat_template(const fs::path& adapter) {
  if (!is_there(adapter / kChatTemplate)) return {};
  return read_file(adapter / kChatTemplate, FilePurpose::kModel);
}

}  // namespace temper
