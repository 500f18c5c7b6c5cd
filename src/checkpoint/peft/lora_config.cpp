// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/peft/lora_config.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "core/concat.h"
#include "io/json.h"

namespace temper {
namespace {

// peft writes whole numbers without a point.
Json number(double value) {
  if (value == std::floor(value) && std::abs(value) < 1e15) return static_cast<int64_t>(value);
  return value;
}

template <typename T>
Json null_if_empty(const std::vector<T>& values) {
  return values.empty() ? Json() : Json(values);
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
    return;
  }
  for (const Json& item : value.is_array() ? value : Json::array()) {
    if (item.is_string()) options.targets.push_back(item.get<std::string>());
  }
  if (!value.is_array() || options.targets.empty() || options.targets.size() != value.size()) {
    keys.refuse(kKey, concat("is ", value.dump(), ", wanted a list of module names"));
  }
}

// Calls add(module, number) for each member of an object from patterns to numbers.
template <typename Add>
void read_pattern(const JsonKeys& keys, const char* key, Add add) {
  if (!keys.has(key)) return;
  for (const auto& [module, value] : keys[key].items()) {
    if (value.is_number() && value > 0.0) {
      add(module, value);
    } else {
      keys.refuse(key, concat("has ", value.dump(), " for ", module));
    }
  }
}

// Not every reader knows "all-linear".
Json targets_of(const LoraOptions& options, const ModelConfig& config) {
  if (!options.target_pattern.empty()) return options.target_pattern;
  if (std::ranges::find(options.targets, "all-linear") == options.targets.end()) {
    return options.targets;
  }
  Json names = Json::array();
  for (const LinearModule& module : linear_modules(config)) {
    names.push_back(module.name.substr(module.name.rfind('.') + 1));
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
  if (layers.size() != list.size()) keys.refuse(kKey, concat("is ", list.dump()));
  return layers;
}

// What would change the arithmetic.
void require_plain(const JsonKeys& keys) {
  keys.require("bias", "none");
  for (const char* key : {"fan_in_fan_out", "use_dora", "lora_bias", "use_qalora", "use_bdlora"}) {
    keys.require(key, false);
  }
  for (const char* key :
       {"modules_to_save", "exclude_modules", "layers_pattern", "layer_replication",
        "trainable_token_indices", "target_parameters", "alora_invocation_tokens"}) {
    if (keys.has(key)) keys.refuse(key, "is set");
  }
}

}  // namespace

Json lora_keys(const LoraOptions& options, const ModelConfig& config) {
  const bool is_kaiming = options.init == LoraOptions::Init::kKaiming;
  Json ranks = Json::object(), alphas = Json::object();
  for (const auto& one : options.rank_pattern) ranks[one.module] = one.rank;
  for (const auto& one : options.alpha_pattern) alphas[one.module] = number(one.alpha);
  return {{"alpha_pattern", alphas},
          {"bias", "none"},
          {"fan_in_fan_out", false},
          {"init_lora_weights", is_kaiming ? Json(true) : Json("gaussian")},
          {"layers_pattern", nullptr},
          {"layers_to_transform", null_if_empty(options.layers)},
          {"lora_alpha", number(options.alpha)},
          {"lora_dropout", number(options.dropout)},
          {"modules_to_save", nullptr},
          {"r", options.rank},
          {"rank_pattern", ranks},
          {"target_modules", targets_of(options, config)},
          {"use_dora", false},
          {"use_rslora", options.uses_rslora}};
}

void read_lora(const JsonKeys& keys, LoraOptions& options) {
  require_plain(keys);
  options.rank = keys.integer("r", {1, 1'000'000}, 8);
  options.alpha = keys.positive("lora_alpha", 8.0);
  options.uses_rslora = keys.flag("use_rslora", false);
  read_targets(keys, options);
  read_pattern(keys, "rank_pattern", [&](const std::string& module, const Json& value) {
    options.rank_pattern.push_back({module, value.get<int64_t>()});
  });
  read_pattern(keys, "alpha_pattern", [&](const std::string& module, const Json& value) {
    options.alpha_pattern.push_back({module, value.get<double>()});
  });
  if (keys.has("lora_dropout") && keys["lora_dropout"].is_number()) {
    options.dropout = keys["lora_dropout"].get<double>();
  }
  options.layers = read_layers(keys);
}

}  // namespace temper
