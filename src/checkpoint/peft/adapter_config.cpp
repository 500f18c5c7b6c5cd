// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/peft/adapter_config.h"

#include <stdexcept>
#include <vector>

#include "checkpoint/adapter_hub/bottleneck_config.h"
#include "checkpoint/json_keys.h"
#include "checkpoint/peft/lora_config.h"
#include "core/concat.h"
#include "core/error.h"
#include "io/json.h"

namespace temper {
namespace {

using Kind = MethodOptions::Kind;

constexpr std::pair<Kind, const char*> kPeftTypes[] = {
    {Kind::kLora, "LORA"}, {Kind::kPrefix, "PREFIX_TUNING"}, {Kind::kPrompt, "PROMPT_TUNING"}};

std::string to_text(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + '\n';
}

// A quantised base is the reader's own choice.
const char* peft_type_of(Kind kind) {
  if (kind == Kind::kQlora) kind = Kind::kLora;
  for (const auto& [known, name] : kPeftTypes) {
    if (known == kind) return name;
  }
  throw std::invalid_argument("peft has no such method");
}

// The heads of a prefix are those of keys and values.
Json virtual_token_keys(const MethodOptions& options, const ModelConfig& config) {
  const bool is_prefix = options.kind == Kind::kPrefix;
  const int64_t heads = is_prefix ? config.num_key_value_heads : config.num_heads;
  const int64_t width = is_prefix ? heads * config.head_dim : config.hidden_size;
  Json json = {{"modules_to_save", nullptr},
               {"num_attention_heads", heads},
               {"num_layers", config.num_layers},
               {"num_transformer_submodules", 1},
               {"num_virtual_tokens", options.num_virtual_tokens()},
               {"token_dim", width}};
  if (is_prefix) {
    json.update({{"encoder_hidden_size", nullptr}, {"prefix_projection", false}});
  } else {
    // What it began with does not matter to a reader; peft would want a tokenizer for its text.
    json.update({{"prompt_tuning_init", "RANDOM"}, {"prompt_tuning_init_text", nullptr}});
  }
  return json;
}

void read_virtual_tokens(const JsonKeys& keys, MethodOptions& options) {
  const int64_t count = keys.integer("num_virtual_tokens", {1, 1'000'000});
  (options.kind == Kind::kPrefix ? options.prefix.num_tokens : options.prompt.num_tokens) = count;
  keys.require("num_transformer_submodules", 1);
  if (keys.has("modules_to_save")) keys.refuse("modules_to_save", "is set");
}

void read_options(const JsonKeys& keys, MethodOptions& options) {
  if (is_adapter_hub_config(keys)) {
    options.kind = Kind::kBottleneck;
    return read_bottleneck(keys, options.bottleneck);
  }
  const std::string type = keys.text("peft_type");
  for (const auto& [kind, name] : kPeftTypes) {
    if (type == name) options.kind = kind;
  }
  if (options.kind == Kind::kLora) {
    read_lora(keys, options.lora);
  } else if (options.has_adapter()) {
    read_virtual_tokens(keys, options);
  } else {
    keys.refuse("peft_type",
                concat("is '", type, "', wanted LORA, PREFIX_TUNING or PROMPT_TUNING"));
  }
}

}  // namespace

std::string adapter_config_text(const MethodOptions& options, const ModelConfig& config,
                                const std::filesystem::path& base) {
  if (options.kind == Kind::kBottleneck) {
    return to_text(bottleneck_keys(options.bottleneck, config, base));
  }
  Json json =
      options.is_lora() ? lora_keys(options.lora, config) : virtual_token_keys(options, config);
  json.update({{"auto_mapping", nullptr},
               {"base_model_name_or_path", std::filesystem::absolute(base).string()},
               {"inference_mode", true},
               {"peft_type", peft_type_of(options.kind)},
               {"revision", nullptr},
               {"task_type", "CAUSAL_LM"}});
  return to_text(json);
}

MethodOptions parse_adapter_config(std::string_view text, const std::string& name) {
  const Json json = parse_json(text, {name, FilePurpose::kModel});
  std::vector<std::string> problems;
  MethodOptions options;
  read_options(JsonKeys(json, "", problems), options);
  if (problems.empty()) return options;
  std::string list = name + " is of an adapter that is not computed here:";
  for (const std::string& problem : problems) list += "\n  " + problem;
  throw ModelError(list, "use an adapter of peft or AdapterHub without these settings");
}

}  // namespace temper
