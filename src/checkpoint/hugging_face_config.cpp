// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/hugging_face_config.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/config_keys.h"
#include "checkpoint/json_keys.h"
#include "core/concat.h"
#include "core/error.h"
#include "io/json.h"
#include "model/family.h"

namespace temper {
namespace {

const Family* find_family(const JsonKeys& keys) {
  const std::string model_type = keys.text("model_type");
  std::string known;
  for (const Family& family : families()) {
    if (family.model_type == model_type) return &family;
    known += concat(known.empty() ? "" : ", ", family.model_type);
  }
  if (!model_type.empty()) {
    keys.refuse("model_type", concat("is ", shown(model_type), "; computed are ", known));
  }
  return nullptr;
}

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
  config.head_dim = keys.integer(
      "head_dim", kSizes, family.default_head_dim == 0 ? even_share : family.default_head_dim);
  config.max_positions =
      keys.integer("max_position_embeddings", kPositions, family.default_max_positions);
  config.norm_epsilon = keys.positive("rms_norm_eps", 1e-6);
  if (config.num_heads % config.num_key_value_heads != 0) {
    keys.refuse("num_attention_heads", concat("is ", config.num_heads, ", no multiple of the ",
                                              config.num_key_value_heads, " key-value heads"));
  }
  if (config.head_dim % 2 != 0) {
    keys.refuse("head_dim", concat("is ", config.head_dim,
                                   "; rotary positions need an even number of dimensions"));
  }
}

bool has_bias(Family::Bias bias, const JsonKeys& keys) {
  return bias == Family::Bias::kAlways ||
         (bias == Family::Bias::kIfAttentionBias && keys.flag("attention_bias", false));
}

void read_biases(const JsonKeys& keys, const Family& family, ModelConfig& config) {
  config.has_qkv_bias = has_bias(family.qkv_bias, keys);
  config.has_output_bias = has_bias(family.output_bias, keys);
  config.has_mlp_bias = family.knows_mlp_bias && keys.flag("mlp_bias", false);
  config.has_qk_norm = family.has_qk_norm;
  config.has_tied_head = keys.flag("tie_word_embeddings", false);
}

void read_llama3_scaling(const JsonKeys& keys, const JsonKeys& top, ModelConfig& config) {
  RopeOptions& rope = config.rope;
  rope.scaling = RopeOptions::Scaling::kLlama3;
  rope.factor = keys.positive("factor");
  rope.low_frequency_factor = keys.positive("low_freq_factor");
  rope.high_frequency_factor = keys.positive("high_freq_factor");
  // The reference lets the key at the top win, and falls back to the whole context.
  const JsonKeys& source = top.has("original_max_position_embeddings") ? top : keys;
  rope.original_max_positions =
      source.integer("original_max_position_embeddings", kPositions, config.max_positions);
  if (rope.high_frequency_factor <= rope.low_frequency_factor) {
    keys.refuse("high_freq_factor", "must be greater than low_freq_factor");
  }
}

// Newer files have `rope_parameters`; in older ones `rope_scaling` holds the same but the base,
// and calls the kind `type`.
void read_rope(const JsonKeys& top, ModelConfig& config, std::vector<std::string>& problems,
               std::vector<std::string>& unknown_keys) {
  config.rope.theta = top.positive("rope_theta", 10000.0);
  top.require("partial_rotary_factor", 1.0);
  const bool is_old = top.has("rope_scaling") && !top["rope_scaling"].empty();
  const bool is_new = top.has("rope_parameters");
  if (!is_old && !is_new) return;
  const char* section = is_old ? "rope_scaling" : "rope_parameters";
  const JsonKeys keys(top[section], concat(section, "."), problems);
  config.rope.theta = keys.positive("rope_theta", config.rope.theta);
  keys.require("partial_rotary_factor", 1.0);
  const char* kind = keys.has("rope_type") ? "rope_type" : "type";
  const std::string type = keys.has(kind) ? keys.text(kind) : "default";
  if (type == "linear") {
    config.rope.scaling = RopeOptions::Scaling::kLinear;
    config.rope.factor = keys.positive("factor");
  } else if (type == "llama3") {
    read_llama3_scaling(keys, top, config);
  } else if (type != "default") {
    return keys.refuse(kind,
                       concat("is ", shown(type), "; computed are default, linear and llama3"));
  }
  for (const std::string& key : sort_out_rope_keys(keys)) {
    unknown_keys.push_back(concat(section, '.', key));
  }
}

// A window per layer for the families whose configuration says which layers have one.
void read_layer_windows(const JsonKeys& keys, ModelConfig& config) {
  // A null is not an absent key: it says that there is no window.
  const bool has_window = keys.flag("use_sliding_window", false) && !keys.is_null("sliding_window");
  const int64_t window = has_window ? keys.integer("sliding_window", kPositions, 4096) : 0;
  const int64_t first = keys.integer("max_window_layers", Range{0, kLayers.end}, 28);
  const auto num_layers = static_cast<size_t>(config.num_layers);
  if (!keys.has("layer_types")) {
    for (int64_t layer = first; layer < config.num_layers; ++layer) {
      config.windows[static_cast<size_t>(layer)] = window;
    }
    return;
  }
  const Json& types = keys["layer_types"];
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

void read_windows(const JsonKeys& keys, const Family& family, ModelConfig& config) {
  config.windows.assign(static_cast<size_t>(config.num_layers), 0);
  if (family.windows == Family::Windows::kByLayer) return read_layer_windows(keys, config);
  if (family.windows == Family::Windows::kNone) return;
  if (keys.has("layer_types")) {
    keys.refuse("layer_types", concat("is no key of the family ", family.model_type));
  }
  // Here, too, a null is not an absent key: it says that there is no window.
  if (keys.is_null("sliding_window")) return;
  config.windows.assign(config.windows.size(), keys.integer("sliding_window", kPositions, 4096));
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

void refuse_other_arithmetic(const JsonKeys& keys) {
  keys.require("hidden_act", "silu");
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
  read_sizes(keys, *family, config);
  read_biases(keys, *family, config);
  read_rope(keys, config, problems, unknown_keys);
  read_windows(keys, *family, config);
  // Only these classes name a token where the file has no such key.
  const bool has_default = family->model_type == "llama" || family->model_type == "mistral";
  if (has_default && !keys.is_null("eos_token_id")) config.eos_token_ids = {2};
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
  const Json json = parse_json(text, {name, FilePurpose::kModel});
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
