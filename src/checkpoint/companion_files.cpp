// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/companion_files.h"

#include <algorithm>
#include <array>
#include <optional>
#include <span>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "core/concat.h"
#include "core/error.h"
#include "core/message_text.h"
#include "core/range.h"
#include "io/file.h"
#include "io/json.h"

namespace temper {
namespace fs = std::filesystem;
namespace {

constexpr std::pair<DType, std::string_view> kDtypeNames[] = {
    {DType::kF32, "float32"}, {DType::kBF16, "bfloat16"}, {DType::kF16, "float16"}};

// All that transformers and vLLM look for beside weights: these, then the tokenizer's, then those
// of a processor.
constexpr std::array kConfigNames = {"config.json", "generation_config.json"};
constexpr std::array kTokenizerNames = {
    "tokenizer.json",
    "tokenizer_config.json",
    "added_tokens.json",
    "special_tokens_map.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tekken.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
};
constexpr std::array kOtherNames = {"chat_template.jinja",      "chat_template.json",
                                    "preprocessor_config.json", "video_preprocessor_config.json",
                                    "processor_config.json",    "audio_tokenizer_config.json"};

// What a licence asks to be passed on begins so, in whatever case and with whatever ending.
constexpr std::array kNotices = {"license", "licence",    "notice",
                                 "copying", "use_policy", "acceptable_use"};

constexpr const char* kTemplates = "additional_chat_templates";  // Other templates than the first.
constexpr const char* kGenerateCode = "custom_generate";         // A model's own way to generate.

bool is_notice(const std::string& name) {
  const std::string lower = to_lower_ascii(name);
  return std::ranges::any_of(kNotices, [&](const char* begin) { return lower.starts_with(begin); });
}

// The files in a folder of which `is_wanted` says so, by name; none if there is no folder.
template <typename Predicate>
std::vector<std::string> names_in(const fs::path& folder, Predicate is_wanted) {
  std::vector<std::string> names;
  std::error_code error;
  for (auto it = fs::directory_iterator(folder, error); !error && it != fs::directory_iterator();
       it.increment(error)) {
    std::error_code ignored;
    if (it->is_regular_file(ignored) && is_wanted(it->path())) {
      names.push_back(it->path().filename().string());
    }
  }
  std::ranges::sort(names);
  return names;
}

void add_those_there(std::span<const char* const> names, const fs::path& folder,
                     std::vector<TextFile>& files) {
  for (const char* name : names) {
    if (is_there(folder / name)) {
      files.push_back({name, read_file(folder / name, FilePurpose::kModel)});
    }
  }
}

// Whether a configuration names classes of the folder's own code.
bool names_own_code(const std::vector<TextFile>& files) {
  return std::ranges::any_of(files, [](const TextFile& file) {
    if (file.path != "config.json" && file.path != "tokenizer_config.json") return false;
    const Json json = Json::parse(file.text, nullptr, false);
    return json.is_object() && json.contains("auto_map");
  });
}

size_t end_of_string(std::string_view json, size_t begin) {
  size_t at = begin + 1;
  while (at < json.size() && json[at] != '"') at += json[at] == '\\' ? 2 : 1;
  return at + 1;
}

// Where the value of a key of the outermost object lies. The text is valid JSON.
std::optional<Range> find_value(std::string_view json, std::string_view key) {
  const std::string wanted = '"' + std::string(key) + '"';
  int depth = 0;
  for (size_t at = 0; at < json.size(); ++at) {
    const char c = json[at];
    if (c == '{' || c == '[') ++depth;
    if (c == '}' || c == ']') --depth;
    if (c != '"') continue;
    const size_t end = end_of_string(json, at);
    const size_t colon = json.find_first_not_of(" \t\r\n", end);
    const bool is_key = colon < json.size() && json[colon] == ':';
    if (depth == 1 && is_key && json.substr(at, end - at) == wanted) {
      const size_t begin = json.find_first_not_of(" \t\r\n", colon + 1);
      const size_t last =
          json[begin] == '"' ? end_of_string(json, begin) : json.find_first_of(" \t\r\n,}", begin);
      return Range{static_cast<int64_t>(begin), static_cast<int64_t>(last)};
    }
    at = end - 1;
  }
  return {};
}

}  // namespace

std::vector<TextFile> read_companion_files(const fs::path& folder) {
  std::vector<TextFile> files;
  const auto add = [&](const std::string& name) {
    files.push_back({name, read_file(folder / name, FilePurpose::kModel)});
  };
  add_those_there(kConfigNames, folder, files);
  add_those_there(kTokenizerNames, folder, files);
  add_those_there(kOtherNames, folder, files);
  const auto ends_in = [](const char* ending) {
    return [ending](const fs::path& path) { return path.extension() == ending; };
  };
  for (const std::string& name : names_in(folder / kTemplates, ends_in(".jinja"))) {
    add(concat(kTemplates, '/', name));
  }
  if (names_own_code(files)) {
    // All of it: one file of code may import another.
    for (const std::string& name : names_in(folder, ends_in(".py"))) add(name);
  }
  for (const std::string& name : names_in(folder / kGenerateCode, ends_in(".py"))) {
    add(concat(kGenerateCode, '/', name));
  }
  const auto notices =
      names_in(folder, [](const fs::path& path) { return is_notice(path.filename().string()); });
  for (const std::string& name : notices) add(name);
  return files;
}

std::vector<TextFile> read_tokenizer_files(const fs::path& folder) {
  std::vector<TextFile> files;
  add_those_there(kTokenizerNames, folder, files);
  return files;
}

void add_model_card(const fs::path& folder, std::vector<TextFile>& files) {
  const std::array names = {kModelCard};
  add_those_there(names, folder, files);
}

void put_texts(const std::vector<TextFile>& texts, std::vector<TextFile>& files) {
  for (const TextFile& text : texts) {
    std::erase_if(files, [&](const TextFile& file) { return file.path == text.path; });
    files.push_back(text);
  }
}

std::vector<std::string> own_code_in(const fs::path& folder) {
  const auto is_code = [](const fs::path& path) { return path.extension() == ".py"; };
  std::vector<std::string> names = names_in(folder, is_code);
  for (const std::string& name : names_in(folder / kGenerateCode, is_code)) {
    names.push_back(concat(kGenerateCode, '/', name));
  }
  return names;
}

std::string with_dtype(const std::string& config, DType dtype) {
  std::string changed = config;
  for (const char* key : {"dtype", "torch_dtype"}) {
    const std::optional<Range> value = find_value(changed, key);
    if (!value) continue;
    changed.replace(static_cast<size_t>(value->begin), static_cast<size_t>(value->size()),
                    concat('"', torch_name(dtype), '"'));
  }
  return changed;
}

std::string with_member(const std::string& object, const std::string& key,
                        const std::string& value) {
  const size_t last_member_end = object.find_last_not_of(" \t\r\n", object.rfind('}') - 1) + 1;
  std::string changed = object;
  return changed.insert(last_member_end, concat(",\n  \"", key, "\": ", value));
}

std::string with_flag(const std::string& object, const std::string& key, bool value) {
  auto json = nlohmann::ordered_json::parse(object);
  json[key] = value;
  return json.dump(2) + '\n';
}

std::string with_end_tokens(const std::string& object, const std::vector<int64_t>& tokens) {
  auto json = nlohmann::ordered_json::parse(object);
  json["eos_token_id"] = tokens;
  return json.dump(2) + '\n';
}

std::string without_member(const std::string& object, const std::string& key) {
  auto json = nlohmann::ordered_json::parse(object);
  json.erase(key);
  return json.dump(2) + '\n';
}

std::string_view torch_name(DType dtype) {
  for (const auto& [known, name] : kDtypeNames) {
    if (known == dtype) return name;
  }
  throw std::invalid_argument(concat("weights are never saved as ", to_string(dtype)));
}

DType dtype_named(const std::string& name, const std::string& key) {
  for (const auto& [dtype, known] : kDtypeNames) {
    if (known == name) return dtype;
  }
  throw ConfigError(concat(key, " is '", name, "'"),
                    "set it to auto, float32, bfloat16 or float16");
}

}  // namespace temper
