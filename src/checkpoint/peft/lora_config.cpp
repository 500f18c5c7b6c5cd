// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/peft/lora_config.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "core/concat.h"
#include "core/message_text.h"
#include "io/json.h"
#include "model/family.h"

namespace temper {
namespace {

constexpr int64_t kMostRank = 1'000'000;  // Arbitrary; more than any matrix has.

template <typename T>
Json null_if_empty(const std::vector<T>& values) {
  return values.empty() ? Json() : Json(values);
}

// A list of names.
std::vector<std::string> names_in(const JsonKeys& keys, const char* key) {
  const Json& value = keys[key];
  std::vector<std::string> names;
  for (const Json& item : value.is_array() ? value : Json::array()) {
    if (item.is_string()) names.push_back(item.get<std::string>());
  }
  if (!value.is_array() || names.empty() || names.size() != value.size()) {
    keys.refuse(key, concat("is ", shown(value), ", wanted a list of module names"));
  }
  return names;
}

// A list of names, or one string: "all-linear" or a regular expression.
void read_targets(const JsonKeys& keys, LoraOptions& options) {
  constexpr const char* kKey = "target_modules";
  if (!keys.has(kKey)) return keys.refuse(kKey, "is missing");
  const Json& value = keys[kKey];
  if (value == "all-linear") return;
  options.targets.clear();
  if (value.is_string()) {
    options.target_pattern = value.get<std::string>();
  } else {
    options.targets = names_in(keys, kKey);
  }
}

// Calls add(module, number) for each member of an object from patterns to numbers, in its order.
template <typename IsFitting, typename Add>
void read_pattern(const JsonKeys& keys, const OrderedJson& ordered, const char* key,
                  IsFitting is_fitting, Add add) {
  if (!keys.has(key)) return;
  if (!keys[key].is_object()) return keys.refuse(key, concat("is ", shown(keys[key])));
  for (const auto& [module, value] : ordered[key].items()) {
    if (is_fitting(value)) {
      add(module, value);
    } else {
      keys.refuse(key, concat("has ", shown(value), " for ", quote(module)));
    }
  }
}

void read_patterns(const JsonKeys& keys, const OrderedJson& ordered, LoraOptions& options) {
  const auto is_rank = [](const Json& value) {
    return value.is_number_unsigned() && value > 0 && value < kMostRank;
  };
  const auto is_alpha = [](const Json& value) {
    return value.is_number() && value > 0.0 && std::isfinite(value.get<double>());
  };
  read_pattern(keys, ordered, "rank_pattern", is_rank, [&](const auto& module, const Json& value) {
    options.rank_pattern.push_back({module, value.get<int64_t>()});
  });
  read_pattern(keys, ordered, "alpha_pattern", is_alpha,
               [&](const auto& module, const Json& value) {
                 options.alpha_pattern.push_back({module, value.get<double>()});
               });
}

// Not every reader knows "all-linear".
Json targets_of(const LoraOptions& options, const ModelConfig& config) {
  if (!options.target_pattern.empty()) return options.target_pattern;
  if (std::ranges::find(options.targets, "all-linear") == options.targets.end()) {
    return options.targets;
  }
  Json names = Json::array();
  for (const LinearModule& module : common_modules(config)) {
    const std::string name = last_part(module.module_name());
    if (std::ranges::find(names, Json(name)) == names.end()) names.push_back(name);
  }
  return names;
}

std::vector<int64_t> read_layers(const JsonKeys& keys) {
  constexpr const char* kKey = "layers_to_transform";
  if (!keys.has(kKey)) return {};
  const Json list = keys[kKey].is_array() ? keys[kKey] : Json::array({keys[kKey]});
  std::vector<int64_t> layers;
  for (const Json& item : list) {
    if (item.is_number_unsigned()) layers.push_back(item.get<int64_t>());
  }
  if (layers.size() != list.size()) keys.refuse(kKey, concat("is ", shown(list)));
  return layers;
}

// What would change the arithmetic.
void require_plain(const JsonKeys& keys) {
  keys.require("bias", "none");
  keys.flag("fan_in_fan_out", false);  // peft goes by how the base stores its matrices.
  for (const char* key : {"lora_bias", "use_qalora", "use_bdlora"}) {
    keys.require(key, false);
  }
  for (const char* key : {"exclude_modules", "layers_pattern", "layer_replication",
                          "target_parameters", "alora_invocation_tokens", "arrow_config",
                          "kasa_config", "megatron_config", "monteclora_config", "velora_config"}) {
    if (keys.has(key) && !keys[key].empty()) keys.refuse(key, "is set");
  }
}

// By some of these peft takes what the adapter began with off the base, again and again when it
// loads the adapter; by the others it only fills tensors that it then reads. After LoRA-GA it takes
// nothing off when it loads, though the adapter was trained on a base that it had changed.
// Source: peft 0.21, tuners/lora/layer.py, update_layer and lora_ga_init.
void require_untouched_base(const JsonKeys& keys) {
  constexpr const char* kKey = "init_lora_weights";
  if (!keys.has(kKey) || keys[kKey].is_boolean()) return;
  const std::string name = keys[kKey].is_string() ? keys[kKey].get<std::string>() : std::string();
  const std::string lower = to_lower_ascii(name);
  if (name == "eva" || name == "orthogonal" || lower == "gaussian" || lower == "mica") return;
  const std::string value = concat("is ", shown(keys[kKey]));
  const bool is_convertible = name.starts_with("pissa") || name.starts_with("corda") ||
                              name == "lora_ga" || lower == "olora";
  if (!is_convertible && name != "loftq") {
    return keys.refuse(kKey, value + ", which peft does not know");
  }
  const char* conversion =
      "save it in peft as a plain LoRA (save_pretrained with "
      "path_initial_model_for_weight_conversion, the path of the adapter as it was before its "
      "training), or ";
  keys.refuse(kKey,
              concat(value,
                     ": such an adapter belongs to a base that peft changes, which is not "
                     "done here; ",
                     is_convertible ? conversion : "", "merge it in peft (merge_and_unload)"));
}

void read_dropout(const JsonKeys& keys, LoraOptions& options) {
  constexpr const char* kKey = "lora_dropout";
  if (!keys.has(kKey)) return;
  const Json& value = keys[kKey];
  if (value.is_number() && value >= 0.0 && value < 1.0) {
    options.dropout = value.get<double>();
  } else {
    keys.refuse(kKey, concat("is ", shown(value), ", wanted a number from 0 to below 1"));
  }
}

// A list of ids for the embedding, or an object from modules to such lists.
void read_tokens(const JsonKeys& keys, SavedModuleOptions& saved) {
  constexpr const char* kKey = "trainable_token_indices";
  saved.trains_head_rows = false;
  if (!keys.has(kKey)) return;
  Json list = keys[kKey];
  if (list.is_object()) {
    const Json lists = list;
    list = lists.value("embed_tokens", Json());
    saved.trains_head_rows = lists.contains("lm_head");
    const bool is_known = lists.size() == (saved.trains_head_rows ? 2U : 1U);
    if (!is_known || (saved.trains_head_rows && lists["lm_head"] != list)) {
      keys.refuse(kKey, concat("is ", shown(lists),
                               ", wanted the same ids for embed_tokens, and "
                               "for lm_head if that is named"));
      return;
    }
  }
  for (const Json& id : list.is_array() ? list : Json::array()) {
    if (id.is_number_unsigned()) saved.tokens.push_back(id.get<int64_t>());
  }
  if (saved.tokens.empty() || saved.tokens.size() != list.size()) {
    keys.refuse(kKey, concat("is ", shown(list), ", wanted ids of tokens"));
  }
}

void read_saved(const JsonKeys& keys, SavedModuleOptions& saved) {
  if (keys.has("modules_to_save")) {
    saved.modules = names_in(keys, "modules_to_save");
  }
  keys.require("ensure_weight_tying", false);
  read_tokens(keys, saved);
}

// As peft has them: with PiSSA, the tensors are a LoRA of twice the rank on the base as it is.
struct Sizes {
  int64_t rank_factor;
  double alpha_factor;
};
Sizes sizes_of(const LoraOptions& options) {
  if (options.init != LoraOptions::Init::kPrincipal) return {1, 1.0};
  return {2, options.uses_rslora ? std::sqrt(2.0) : 2.0};
}

// For an untied head, peft is told of its rows, too.
Json tokens_of(const SavedModuleOptions& saved, const ModelConfig& config) {
  const auto names_head = [&] {
    const auto tensors = saved_tensors(saved, config);
    return std::ranges::any_of(tensors, [](const SavedTensor& tensor) {
      return tensor.is_rows && tensor.place == SavedTensor::Place::kHead;
    });
  };
  if (saved.tokens.empty()) return nullptr;
  if (!names_head()) return saved.tokens;
  return {{"embed_tokens", saved.tokens}, {"lm_head", saved.tokens}};
}

}  // namespace

OrderedJson lora_keys(const LoraOptions& options, const ModelConfig& config) {
  const bool is_gaussian = options.init == LoraOptions::Init::kGaussian;
  const Sizes sizes = sizes_of(options);
  const SavedModuleOptions& saved = options.saved;
  OrderedJson ranks = OrderedJson::object(), alphas = OrderedJson::object();
  for (const auto& one : options.rank_pattern) ranks[one.module] = one.rank * sizes.rank_factor;
  for (const auto& one : options.alpha_pattern) {
    alphas[one.module] = python_number(one.alpha * sizes.alpha_factor);
  }
  OrderedJson keys = Json{{"alpha_pattern", nullptr},
                          {"bias", "none"},
                          {"fan_in_fan_out", family_of(config.model_type).is_transposed},
                          {"init_lora_weights", is_gaussian ? Json("gaussian") : Json(true)},
                          {"layers_pattern", nullptr},
                          {"layers_to_transform", null_if_empty(options.layers)},
                          {"lora_alpha", python_number(options.alpha * sizes.alpha_factor)},
                          {"lora_dropout", python_number(options.dropout)},
                          {"modules_to_save", null_if_empty(saved.modules)},
                          {"r", options.rank * sizes.rank_factor},
                          {"rank_pattern", nullptr},
                          {"target_modules", targets_of(options, config)},
                          {"trainable_token_indices", tokens_of(saved, config)},
                          {"use_dora", options.uses_dora},
                          {"use_rslora", options.uses_rslora}};
  keys["alpha_pattern"] = std::move(alphas);
  keys["rank_pattern"] = std::move(ranks);
  return keys;
}

void read_lora(const JsonKeys& keys, const OrderedJson& ordered, LoraOptions& options) {
  require_plain(keys);
  require_untouched_base(keys);
  options.rank = keys.integer("r", {1, kMostRank}, 8);
  options.alpha = keys.positive("lora_alpha", 8.0);
  options.uses_rslora = keys.flag("use_rslora", false);
  options.uses_dora = keys.flag("use_dora", false);
  read_targets(keys, options);
  read_patterns(keys, ordered, options);
  read_dropout(keys, options);
  options.layers = read_layers(keys);
  if (!options.layers.empty() && keys["target_modules"].is_string()) {
    keys.refuse("layers_to_transform", "is set beside a target_modules that is no list");
  }
  read_saved(keys, options.saved);
}

}  // namespace temper
