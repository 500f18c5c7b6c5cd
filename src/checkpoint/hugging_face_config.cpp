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
#include "checkpoint/rope_config.h"
#include "core/concat.h"
#include "core/error.h"
#include "io/json.h"
#include "model/family.h"

namespace temper {
namespace {

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
    const char* text = keys.has("text_config") ? " and not the text part of another model" : "";
    const std::string_view missing = missing_for(model_type);
    keys.refuse("model_type",
                concat("is ", shown(model_type), missing.empty() ? "" : ", which needs ", missing,
                       "; computed are ", known, text));
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
constexpr Range kLayers{1, 10001};
constexpr Range kPositions{1, int64_t{1} << 40};

void read_sizes(const JsonKeys& keys, const Family& family, ModelConfig& config) {
  config.vocab_size = keys.integer("vocab_size", kSizes);
  config.hidden_size = keys.integer("hidden_size", kSizes);
  config.intermediate_size = keys.integer("intermediate_size", kSizes);
  config.num_layers = keys.integer("num_hidden_layers", kLayers);
  config.num_heads = keys.integer("num_attention_heads", kSizes);
  // Here a null is not an absent key: it says as many as heads.
  const bool is_plain = family.default_key_value_heads == 0 || keys.is_null("num_key_value_heads");
  config.num_key_value_heads = keys.integer(
      "num_key_value_heads", kSizes, is_plain ? config.num_heads : family.default_key_value_heads);
  const int64_t even_share = std::max<int64_t>(1, config.hidden_size / config.num_heads);
  const bool is_even = family.default_head_dim == 0 || keys.is_null("head_dim");
  config.head_dim =
      keys.integer("head_dim", kSizes, is_even ? even_share : family.default_head_dim);
  config.max_positions =
      keys.integer("max_position_embeddings", kPositions, family.default_max_positions);
  config.norm_epsilon = keys.positive(text_of(family.epsilon_key).c_str(), family.default_epsilon);
  if (config.num_heads % config.num_key_value_heads != 0) {
    keys.refuse("num_attention_heads", concat("is ", config.num_heads, ", no multiple of the ",
                                              config.num_key_value_heads, " key-value heads"));
  }
  if (config.head_dim % 2 != 0 && !family.knows_rotated_share) {
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
  config.has_qk_norm = family.query_key_norm != Family::QueryKeyNorm::kNone;
  config.has_tied_head = keys.flag("tie_word_embeddings", family.is_tied_by_default);
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
}

// By `layer_types`, which is there.
void read_layer_types(const JsonKeys& keys, int64_t window, ModelConfig& config) {
  const Json& types = keys["layer_types"];
  const auto num_layers = static_cast<size_t>(config.num_layers);
  if (!types.is_array() || types.size() != num_layers) {
    return keys.refuse("layer_types", concat("is not a list of ", num_layers, " layers"));
  }
  for (size_t layer = 0; layer < num_layers; ++layer) {
    if (types[layer] == "full_attention") continue;
    if (types[layer] != "sliding_attention") {
      return keys.refuse("layer_types", concat("has ", shown(types[layer]), " at layer ", layer,
                                               "; computed are full_attention and "
                                               "sliding_attention"));
    }
    if (window == 0) {
      return keys.refuse("layer_types", concat("has sliding_attention at layer ", layer,
                                               ", but use_sliding_window is false, or there is no "
                                               "sliding_window"));
    }
    config.windows[layer] = window;
  }
}

// Whether a layer has the family's window where no `layer_types` says so.
template <typename Function>
void fill_windows(ModelConfig& config, int64_t window, Function has_window) {
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    if (has_window(layer)) config.windows[static_cast<size_t>(layer)] = window;
  }
}

// After the positions, which some windows depend on.
void read_windows(const JsonKeys& keys, const Family& family, ModelConfig& config) {
  using Windows = Family::Windows;
  const Windows rule = family.windows;
  config.windows.assign(static_cast<size_t>(config.num_layers), 0);
  if (rule == Windows::kNone) return;
  const bool is_every = rule == Windows::kEveryLayer || rule == Windows::kEveryLayerIfUsed;
  if (is_every && keys.has("layer_types")) {
    return keys.refuse("layer_types", concat("is no key of the family ", family.model_type));
  }
  const bool is_always_on =
      rule == Windows::kEveryLayer || rule == Windows::kByPattern || rule == Windows::kByLayerTypes;
  const bool is_on = is_always_on || keys.flag("use_sliding_window", false);
  // A null is not an absent key: it says that there is no window.
  const bool has_window = is_on && !keys.is_null("sliding_window") &&
                          (family.default_window > 0 || keys.has("sliding_window"));
  const int64_t window =
      has_window ? keys.integer("sliding_window", kPositions, family.default_window) : 0;
  const bool has_border = rule == Windows::kAboveLayer || rule == Windows::kEvenBelowLayer;
  const int64_t first =
      has_border ? keys.integer("max_window_layers", Range{0, kLayers.end}, 28) : 0;
  const std::string pattern_key = text_of(family.pattern_key);
  const bool has_pattern = !pattern_key.empty() && keys.has(pattern_key.c_str());
  if (keys.has("layer_types")) return read_layer_types(keys, window, config);
  const int64_t pattern = has_pattern ? keys.integer(pattern_key.c_str(), kLayers, 1)
                                      : std::max<int64_t>(1, family.default_pattern);
  fill_windows(config, window, [&](int64_t layer) {
    switch (rule) {
      case Windows::kAboveLayer: return layer >= first;
      case Windows::kEvenBelowLayer: return layer < first && layer % 2 == 0;
      case Windows::kByPattern: return (layer + 1) % pattern != 0;
      case Windows::kWithoutRope: return config.positions_of(layer) == LayerPositions::kNone;
      default: return true;
    }
  });
}

// Whose ones rotate.
void read_rotated_layers(const JsonKeys& keys, ModelConfig& config) {
  const int64_t interval = keys.integer("no_rope_layer_interval", kLayers, 4);
  const bool has_list = keys.has("no_rope_layers");
  const Json& list = has_list ? keys["no_rope_layers"] : Json();
  if (has_list && (!list.is_array() || std::ssize(list) != config.num_layers)) {
    return keys.refuse("no_rope_layers", concat("is not a list of ", config.num_layers, " layers"));
  }
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    const bool rotates =
        has_list ? list[static_cast<size_t>(layer)] == 1 : (layer + 1) % interval != 0;
    config.positions.push_back(rotates ? LayerPositions::kRope : LayerPositions::kNone);
  }
}

// By the layers' windows.
void read_positions_by_window(const JsonKeys& keys, const Family& family, ModelConfig& config) {
  const bool has_two = family.rotated == Family::Rotated::kTwoTables;
  if (!has_two && keys.is_null("sliding_window")) {
    if (!family.is_parallel) return;  // Then all layers rotate.
    return keys.refuse("sliding_window", "is null, which is not computed for this family");
  }
  for (const int64_t window : config.windows) {
    const LayerPositions full = has_two ? LayerPositions::kRope : LayerPositions::kNone;
    const LayerPositions windowed = has_two ? LayerPositions::kWindowRope : LayerPositions::kRope;
    config.positions.push_back(window > 0 ? windowed : full);
  }
}

void read_layers(const JsonKeys& keys, const Family& family, ModelConfig& config) {
  using Rotated = Family::Rotated;
  if (family.rotated == Rotated::kByList) read_rotated_layers(keys, config);
  read_windows(keys, family, config);
  if (family.rotated == Rotated::kWindowLayers || family.rotated == Rotated::kTwoTables) {
    read_positions_by_window(keys, family, config);
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

void refuse_dropout(const JsonKeys& keys, const Family& family) {
  for (const std::string_view key : family.dropouts) {
    if (!key.empty()) keys.require(text_of(key).c_str(), 0.0);
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

void read_model(const JsonKeys& keys, ModelConfig& config, std::vector<std::string>& problems,
                std::vector<std::string>& unknown_keys) {
  refuse_other_arithmetic(keys);
  const Family* family = find_family(keys);
  if (family == nullptr) return;
  config.model_type = std::string(family->model_type);
  refuse_dropout(keys, *family);
  read_sizes(keys, *family, config);
  read_flags(keys, *family, config);
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

}  // namespace

ModelConfig parse_hugging_face_config(std::string_view text, const std::string& name,
                                      std::vector<std::string>* unknown_keys) {
  const Json json = without_aliases(parse_json(text, {name, FilePurpose::kModel}));
  std::vector<std::string> problems, unknown;
  const JsonKeys keys(json, "", problems);
  ModelConfig config;
  if (problems.empty()) read_model(keys, config, problems, unknown);
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
