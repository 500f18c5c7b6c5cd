// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/hugging_face_config.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "checkpoint/config_keys.h"
#include "checkpoint/expert_config.h"
#include "checkpoint/json_keys.h"
#include "checkpoint/layer_config.h"
#include "checkpoint/rope_config.h"
#include "core/concat.h"
#include "core/error.h"
#include "io/json.h"
#include "model/family.h"

namespace temper {
namespace {

// Models of which one part reads text, and what that is where the file does not say.
struct Whole {
  std::string_view model_type, text_type;
};
constexpr Whole kWholes[] = {{"gemma3", "gemma3_text"}, {"mistral3", "mistral"}};

const Family* find_family(const JsonKeys& keys) {
  std::string model_type = keys.text("model_type");
  // So does transformers: such a file is of a model whose layers differ in their windows.
  if (model_type == "mistral" && keys.has("layer_types")) model_type = "ministral";
  std::string known;
  for (const Family& family : families()) {
    if (family.model_type == model_type) return &family;
    known += concat(known.empty() ? "" : ", ", family.model_type);
  }
  if (!model_type.empty()) {
    std::string wholes;
    for (const Whole& whole : kWholes) {
      wholes += concat(wholes.empty() ? ", and the text part of " : ", ", whole.model_type);
    }
    const std::string_view missing = missing_for(model_type);
    keys.refuse("model_type",
                concat("is ", shown(model_type), missing.empty() ? "" : ", which needs ", missing,
                       "; computed are ", known, wholes));
  }
  return nullptr;
}

// The same with keys as the family's class calls them.
Json without_aliases(Json json) {
  if (!json.is_object() || !json.contains("model_type")) return json;
  for (const Family& family : families()) {
    if (json["model_type"] != family.model_type) continue;
    for (const auto& [name, key] : family.aliases) {
      if (name.empty() || !json.contains(name) || json.contains(key)) continue;
      json[std::string(key)] = json[std::string(name)];
      json.erase(std::string(name));
    }
  }
  return json;
}

// A key as the family calls it.
std::string text_of(std::string_view key) { return std::string(key); }

// More than any model has; products of three such sizes still fit 64 bits.
constexpr Range kSizes{1, int64_t{1} << 21};

void require_grouping(const JsonKeys& keys, const ModelConfig& config) {
  if (config.num_heads % config.num_key_value_heads == 0) return;
  keys.refuse("num_attention_heads", concat("is ", config.num_heads, ", no multiple of the ",
                                            config.num_key_value_heads, " key-value heads"));
}

void read_sizes(const JsonKeys& keys, const Family& family, ModelConfig& config) {
  const auto size = [&](const char* key, int64_t fallback) {
    return keys.integer(key, kSizes, fallback > 0 ? std::optional(fallback) : std::nullopt);
  };
  config.vocab_size = size("vocab_size", family.default_vocab_size);
  config.hidden_size = size("hidden_size", 0);
  config.intermediate_size =
      size(text_of(family.inner_key).c_str(), family.has_wide_inner ? 4 * config.hidden_size : 0);
  config.num_layers = keys.integer("num_hidden_layers", kLayers);
  config.num_heads = size("num_attention_heads", family.default_heads);
  const int64_t even_share = std::max<int64_t>(1, config.hidden_size / config.num_heads);
  config.num_key_value_heads = config.num_heads;
  config.head_dim = even_share;
  if (family.has_plain_heads) {
    keys.require("head_dim", config.head_dim);
  } else {
    // Here a null is not an absent key: it says as many as heads.
    const bool is_plain =
        family.default_key_value_heads == 0 || keys.is_null("num_key_value_heads");
    config.num_key_value_heads =
        keys.integer("num_key_value_heads", kSizes,
                     is_plain ? config.num_heads : family.default_key_value_heads);
    const bool is_even = family.default_head_dim == 0 || keys.is_null("head_dim");
    config.head_dim =
        keys.integer("head_dim", kSizes, is_even ? even_share : family.default_head_dim);
  }
  config.max_positions =
      keys.integer("max_position_embeddings", kPositions, family.default_max_positions);
  config.norm_epsilon = family.default_epsilon;
  if (!family.epsilon_key.empty()) {
    config.norm_epsilon =
        keys.positive(text_of(family.epsilon_key).c_str(), family.default_epsilon);
  }
  require_grouping(keys, config);
  const bool may_be_odd = family.knows_rotated_share || family.has_learned_positions();
  if (config.head_dim % 2 != 0 && !may_be_odd) {
    keys.refuse("head_dim", concat("is ", config.head_dim,
                                   "; rotary positions need an even number of dimensions"));
  }
}

bool read_flag(const JsonKeys& keys, const Family::Flag& flag) {
  return flag.key.empty() ? flag.is_set : keys.flag(text_of(flag.key).c_str(), flag.is_set);
}

void read_flags(const JsonKeys& keys, const Family& family, ModelConfig& config) {
  config.has_qkv_bias = read_flag(keys, family.qkv_bias);
  config.has_output_bias = read_flag(keys, family.output_bias);
  config.has_mlp_bias = read_flag(keys, family.mlp_bias);
  config.has_qk_norm =
      family.query_key_norm != Family::QueryKeyNorm::kNone && read_flag(keys, family.norms_queries);
  config.has_tied_head = keys.flag("tie_word_embeddings", family.is_tied_by_default);
  config.has_head_bias = family.has_head_bias;
  if (!read_flag(keys, family.parallel)) return;
  config.residual = family.is_apart ? Residual::kParallelApart : Residual::kParallel;
}

// Of its two generations.
void read_falcon(const JsonKeys& keys, ModelConfig& config) {
  keys.require("alibi", false);
  const bool is_new = keys.flag("new_decoder_architecture", false);
  const bool has_one = keys.flag("multi_query", true);
  const bool is_parallel = keys.flag("parallel_attn", true);
  const int64_t heads = keys.integer("num_kv_heads", kSizes, config.num_heads);
  const int64_t norms = keys.integer("num_ln_in_parallel_attn", Range{1, 3}, is_new ? 2 : 1);
  config.num_key_value_heads = is_new ? heads : has_one ? 1 : config.num_heads;
  config.residual = !is_parallel ? Residual::kSequential
                    : norms == 2 ? Residual::kParallelApart
                                 : Residual::kParallel;
  if (is_new && !is_parallel) {
    keys.refuse("parallel_attn", "is false beside new_decoder_architecture");
  }
  if (!is_new && norms == 2) {
    keys.refuse("num_ln_in_parallel_attn", "is 2 without new_decoder_architecture");
  }
  require_grouping(keys, config);
}

// As transformers calls them in configurations.
constexpr std::pair<std::string_view, ActivationFunction> kActivations[] = {
    {"silu", ActivationFunction::kSwish},
    {"swish", ActivationFunction::kSwish},
    {"gelu", ActivationFunction::kGelu},
    {"gelu_pytorch_tanh", ActivationFunction::kGeluNew},
    {"gelu_new", ActivationFunction::kGeluNew},
    {"relu", ActivationFunction::kRelu},
    {"relu2", ActivationFunction::kSquaredRelu},
    {"quick_gelu", ActivationFunction::kQuickGelu},
};

void read_activation(const JsonKeys& keys, const Family& family, ModelConfig& config) {
  config.activation = family.default_activation;
  const std::string key = text_of(family.activation_key);
  if (!keys.has(key.c_str())) return;
  const std::string name = keys.text(key.c_str());
  std::string known;
  for (const auto& [each, function] : kActivations) {
    known += concat(known.empty() ? "" : ", ", each);
    if (each != name) continue;
    const bool means_tanh = family.means_tanh_by_gelu && name == "gelu";
    config.activation = means_tanh ? ActivationFunction::kGeluNew : function;
    return;
  }
  keys.refuse(key.c_str(), concat("is ", shown(name), "; computed are ", known));
}

// A null says that there is none.
double read_softcap(const JsonKeys& keys, const char* key, double fallback) {
  return keys.is_null(key) ? 0.0 : keys.positive(key, fallback);
}

// By what embeddings, scores, residuals and logits are multiplied and bounded.
void read_scalars(const JsonKeys& keys, const Family& family, ModelConfig& config) {
  if (family.scales_embedding) {
    config.embedding_scale = std::sqrt(static_cast<double>(config.hidden_size));
  }
  if (family.has_multipliers) {
    config.attention_scale = keys.positive("attention_multiplier", 1.0);
    config.embedding_scale = keys.positive("embedding_multiplier", 1.0);
    config.residual_scale = keys.positive("residual_multiplier", 1.0);
    config.logit_scale = 1.0 / keys.positive("logits_scaling", 1.0);
  }
  if (family.default_query_scalar > 0.0) {
    config.attention_scale =
        1.0 / std::sqrt(keys.positive("query_pre_attn_scalar", family.default_query_scalar));
  }
  // Gemma 3's class has the key of the attention's bound, too, but its code does not apply it.
  if (family.default_attention_softcap > 0.0) {
    config.attention_softcap =
        read_softcap(keys, "attn_logit_softcapping", family.default_attention_softcap);
  }
  if (family.knows_softcaps) {
    config.logit_softcap =
        read_softcap(keys, "final_logit_softcapping", family.default_logit_softcap);
  }
  if (family.default_logit_scale > 0.0) {
    config.logit_scale = keys.positive("logit_scale", family.default_logit_scale);
  }
  if (family.has_qkv_bound && keys.has("clip_qkv")) config.qkv_bound = keys.positive("clip_qkv");
  if (family.has_unscaled_flag && !keys.flag("scale_attn_weights", true)) {
    config.attention_scale = 1.0;
  }
}

void read_end_tokens(const JsonKeys& keys, ModelConfig& config) {
  if (!keys.has("eos_token_id")) return;
  const Json& value = keys["eos_token_id"];
  const Json list = value.is_array() ? value : Json::array({value});
  std::vector<int64_t> ids;
  for (const Json& id : list) {
    if (!id.is_number_integer() || id < 0 || id >= config.vocab_size) {
      return keys.refuse("eos_token_id", concat("is ", shown(value),
                                                ", wanted a token id or a list of them, below ",
                                                config.vocab_size));
    }
    ids.push_back(id.get<int64_t>());
  }
  config.eos_token_ids = std::move(ids);
}

// Fine-tuning goes without that of models that are published with it: so much is told.
void refuse_dropout(const JsonKeys& keys, const Family& family,
                    std::vector<std::string>& unknown_keys) {
  for (const std::string_view name : family.dropouts) {
    const std::string key = text_of(name);
    if (key.empty()) continue;
    if (!family.is_published_with_dropout || !keys.has(key.c_str()) ||
        !keys[key.c_str()].is_number()) {
      keys.require(key.c_str(), 0.0);
    } else if (keys[key.c_str()] != 0.0) {
      unknown_keys.push_back(concat(key, " (", shown(keys[key.c_str()]), ": nothing is dropped)"));
    }
  }
}

void refuse_other_arithmetic(const JsonKeys& keys) {
  keys.require("attention_dropout", 0.0);
  keys.require("is_causal", true);
  keys.require("is_encoder_decoder", false);
  for (const char* key : {"dtype", "torch_dtype"}) {
    if (keys.has(key) && !keys[key].is_string()) {
      keys.refuse(key, concat("is ", shown(keys[key]), ", wanted a name such as \"bfloat16\""));
    }
  }
}

// A file may have both names of a key, but not for two things.
void refuse_contradictions(const JsonKeys& keys, const Family& family) {
  for (const auto& [alias, name] : family.aliases) {
    const std::string other = text_of(alias), key = text_of(name);
    if (other.empty() || !keys.has(other.c_str()) || keys[other.c_str()] == keys[key.c_str()]) {
      continue;
    }
    keys.refuse(other.c_str(), concat("is ", shown(keys[other.c_str()]), ", but ", key, " is ",
                                      shown(keys[key.c_str()])));
  }
}

void read_model(const JsonKeys& keys, ModelConfig& config, std::vector<std::string>& problems,
                std::vector<std::string>& unknown_keys) {
  refuse_other_arithmetic(keys);
  const Family* family = find_family(keys);
  if (family == nullptr) return;
  config.model_type = std::string(family->model_type);
  config.file_base = config.module_base = family->base;
  config.file_head = family->parts.head;
  if (family->has_llama_modules) config.module_base = "model.";
  refuse_contradictions(keys, *family);
  refuse_dropout(keys, *family, unknown_keys);
  read_sizes(keys, *family, config);
  read_flags(keys, *family, config);
  if (family->has_falcon_keys) read_falcon(keys, config);
  read_activation(keys, *family, config);
  read_scalars(keys, *family, config);
  read_rope(keys, *family, config, problems, unknown_keys);
  read_layers(keys, *family, config);
  read_experts(keys, *family, config);
  if (!keys.is_null("eos_token_id")) {
    for (const int64_t token : family->default_end_tokens) {
      if (token >= 0) config.eos_token_ids.push_back(token);
    }
  }
  read_end_tokens(keys, config);
  const std::vector<std::string> unknown = sort_out_config_keys(keys);
  unknown_keys.insert(unknown_keys.end(), unknown.begin(), unknown.end());
}

void throw_if_any(const std::vector<std::string>& problems, const std::string& name) {
  if (problems.empty()) return;
  std::string list = name + " cannot be used:";
  for (const std::string& problem : problems) list += "\n  " + problem;
  throw ModelError(list, "choose a model that is computed here, or mend the file");
}

const Whole* find_whole(const Json& json) {
  if (!json.is_object() || !json.contains("text_config")) return nullptr;
  const auto whole = std::ranges::find_if(kWholes, [&](const Whole& one) {
    return json.contains("model_type") && json["model_type"] == one.model_type;
  });
  return whole == std::end(kWholes) ? nullptr : whole;
}

// The configuration of its part that reads text, with what the whole says of that. Whether the head
// is tied, the whole alone says.
Json text_part(const Json& json, const Whole& whole) {
  Json text = json["text_config"];
  if (!text.is_object()) return text;
  text["tie_word_embeddings"] = true;
  for (const char* key : {"tie_word_embeddings", "eos_token_id", "dtype", "torch_dtype"}) {
    if (json.contains(key) && !json[key].is_null()) text[key] = json[key];
  }
  if (!text.contains("model_type")) text["model_type"] = whole.text_type;
  return text;
}

// Of how images become tokens.
constexpr const char* kImageKeys[] = {"boi_token_index",      "eoi_token_index",
                                      "image_token_index",    "multimodal_projector_bias",
                                      "projector_hidden_act", "spatial_merge_size",
                                      "vision_feature_layer"};

// Beside the part that reads text. Notes problems.
std::vector<std::string> unknown_keys_beside(const Json& json, std::vector<std::string>& problems) {
  const JsonKeys keys(json, "", problems);
  for (const char* key :
       {"model_type", "text_config", "vision_config", "tie_word_embeddings", "eos_token_id"}) {
    keys.has(key);
  }
  for (const char* key : kImageKeys) keys.has(key);
  return sort_out_config_keys(keys);
}

// As transformers calls them in files and in its modules.
void name_text_part(ModelConfig& config) {
  config.has_other_parts = true;
  config.module_base = "model.language_model.";
  config.file_base = "language_model." + config.file_base;
  config.file_head = "language_model." + config.file_head;
}

}  // namespace

ModelConfig parse_hugging_face_config(std::string_view text, const std::string& name,
                                      std::vector<std::string>* unknown_keys) {
  const Json file = parse_json(text, {name, FilePurpose::kModel});
  const Whole* whole = find_whole(file);
  const Json json = without_aliases(whole == nullptr ? file : text_part(file, *whole));
  std::vector<std::string> problems, unknown;
  const JsonKeys keys(json, whole == nullptr ? "" : "text_config.", problems);
  ModelConfig config;
  if (problems.empty()) read_model(keys, config, problems, unknown);
  if (whole != nullptr) {
    for (std::string& key : unknown_keys_beside(file, problems)) unknown.push_back(std::move(key));
    name_text_part(config);
  }
  throw_if_any(problems, name);
  if (unknown_keys != nullptr) *unknown_keys = std::move(unknown);
  return config;
}

void take_end_tokens(std::string_view text, const std::string& name, ModelConfig& config) {
  const Json json = parse_json(text, {name, FilePurpose::kModel});
  std::vector<std::string> problems;
  read_end_tokens(JsonKeys(json, "", problems), config);
  throw_if_any(problems, name);
}

}  // namespace temper
