// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/peft/adapter_config.h"

#include <map>
#include <stdexcept>
#include <vector>

#include "checkpoint/adapter_hub/bottleneck_config.h"
#include "checkpoint/json_keys.h"
#include "checkpoint/peft/lora_config.h"
#include "core/concat.h"
#include "core/error.h"
#include "core/message_text.h"
#include "io/json.h"

namespace temper {
namespace {

using Kind = MethodOptions::Kind;

constexpr std::pair<Kind, const char*> kPeftTypes[] = {
    {Kind::kLora, "LORA"}, {Kind::kPrefix, "PREFIX_TUNING"}, {Kind::kPrompt, "PROMPT_TUNING"}};

// Of peft's keys those that change nothing where an adapter is loaded: who wrote it, from what it
// began (by `init_lora_weights` and the like), what follows from the base, and what only says how a
// setting works that is refused itself.
constexpr const char* kHarmlessKeys[] = {
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "eva_config",
    "inference_mode",
    "loftq_config",
    "lora_ga_config",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "task_type",
    // Of prefixes and prompts.
    "encoder_hidden_size",
    "init_weights",
    "num_attention_heads",
    "num_layers",
    "prefix_projection",
    "prompt_tuning_init",
    "prompt_tuning_init_text",
    "token_dim",
    "tokenizer_kwargs",
    "tokenizer_name_or_path",
};

std::string to_text(const OrderedJson& json) {
  return json.dump(2, ' ', false, OrderedJson::error_handler_t::replace) + '\n';
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

void read_options(const JsonKeys& keys, const OrderedJson& ordered, MethodOptions& options) {
  if (is_adapter_hub_config(keys)) {
    options.kind = Kind::kBottleneck;
    return read_bottleneck(keys, options.bottleneck);
  }
  const std::string type = keys.text("peft_type");
  for (const auto& [kind, name] : kPeftTypes) {
    if (type == name) options.kind = kind;
  }
  if (options.kind == Kind::kLora) {
    read_lora(keys, ordered, options.lora);
  } else if (options.has_adapter()) {
    read_virtual_tokens(keys, options);
  } else {
    keys.refuse("peft_type",
                concat("is ", quote(type), ", wanted LORA, PREFIX_TUNING or PROMPT_TUNING"));
    return;
  }
  keys.refuse_others(kHarmlessKeys);
}

}  // namespace

std::string adapter_config_text(const MethodOptions& options, const ModelConfig& config,
                                const std::filesystem::path& base) {
  if (options.kind == Kind::kBottleneck) {
    return to_text(OrderedJson(bottleneck_keys(options.bottleneck, config, base)));
  }
  const OrderedJson own = options.is_lora() ? lora_keys(options.lora, config)
                                            : OrderedJson(virtual_token_keys(options, config));
  std::map<std::string, OrderedJson> sorted = {
      {"auto_mapping", nullptr},
      {"base_model_name_or_path", std::filesystem::absolute(base).string()},
      {"inference_mode", true},
      {"peft_type", peft_type_of(options.kind)},
      {"revision", nullptr},
      {"task_type", "CAUSAL_LM"}};
  for (const auto& [key, value] : own.items()) sorted[key] = value;
  OrderedJson json = OrderedJson::object();
  for (auto& [key, value] : sorted) json[key] = std::move(value);
  return to_text(json);
}

MethodOptions parse_adapter_config(std::string_view text, const std::string& name) {
  const Json json = parse_json(text, {name, FilePurpose::kModel});
  std::vector<std::string> problems;
  MethodOptions options;
  read_options(JsonKeys(json, "", problems), OrderedJson::parse(text), options);
  if (problems.empty()) return options;
  std::string list = name + " is of an adapter that is not computed here:";
  for (const std::string& problem : problems) list += "\n  " + problem;
  throw ModelError(list, "use an adapter of peft or AdapterHub without these settings");
}

}  // namespace temper
