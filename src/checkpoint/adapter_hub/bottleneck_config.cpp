// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/adapter_hub/bottleneck_config.h"

#include <string_view>
#include <utility>
#include <vector>

#include "core/concat.h"
#include "core/message_text.h"
#include "model/family.h"

namespace temper {
namespace {

using Placement = BottleneckOptions::Placement;

constexpr std::string_view kVersionPrefix = "adapters.";  // Before, "gelu" was another function.

// transformers has several names for the same function.
constexpr std::pair<const char*, ActivationFunction> kFunctions[] = {
    {"relu", ActivationFunction::kRelu},
    {"swish", ActivationFunction::kSwish},
    {"silu", ActivationFunction::kSwish},
    {"gelu", ActivationFunction::kGelu},
    {"gelu_python", ActivationFunction::kGelu},
    {"gelu_new", ActivationFunction::kGeluNew},
    {"gelu_fast", ActivationFunction::kGeluNew},
    {"gelu_pytorch_tanh", ActivationFunction::kGeluNew},
    {"quick_gelu", ActivationFunction::kQuickGelu}};

// What is at its default whatever the placement.
Json plain_keys() {
  return {{"adapter_residual_before_ln", false},
          {"cross_adapter", false},
          {"dropout", 0.0},
          {"factorized_phm_W", true},
          {"factorized_phm_rule", false},
          {"hypercomplex_nonlinearity", "glorot-uniform"},
          {"init_weights", "bert"},
          {"init_weights_seed", nullptr},
          {"inv_adapter", nullptr},
          {"inv_adapter_reduction_factor", nullptr},
          {"is_parallel", false},
          {"learn_phm", true},
          {"leave_out", Json::array()},
          {"ln_after", false},
          {"ln_before", false},
          {"original_ln_after", true},
          {"output_adapter", true},
          {"phm_bias", true},
          {"phm_c_init", "normal"},
          {"phm_dim", 4},
          {"phm_init_range", 1e-4},
          {"phm_layer", false},
          {"phm_rank", 1},
          {"residual_before_ln", true},
          {"scaling", 1.0},
          {"shared_W_phm", false},
          {"shared_phm_rule", true},
          {"stochastic_depth", 0.0},
          {"use_gating", false}};
}

// What would change the arithmetic.
void require_plain(const JsonKeys& keys) {
  const Json plain = plain_keys();
  for (const char* key :
       {"cross_adapter", "is_parallel", "leave_out", "ln_after", "ln_before", "original_ln_after",
        "output_adapter", "phm_layer", "residual_before_ln", "scaling", "use_gating"}) {
    keys.require(key, plain[key]);
  }
  for (const char* key : {"architecture", "inv_adapter"}) {
    if (keys.has(key)) keys.refuse(key, "is set");
  }
}

void read_placement(const JsonKeys& keys, BottleneckOptions& options) {
  const bool is_double = keys.flag("mh_adapter", false);
  options.placement = is_double ? Placement::kHoulsby : Placement::kPfeiffer;
  // It is about the sum with the residual, too, where a model has no norm there.
  if (keys.flag("original_ln_before", false) == is_double) {
    keys.refuse("original_ln_before",
                concat("is ", is_double ? "true" : "false", " and mh_adapter ",
                       is_double ? "true" : "false", ", wanted one of double_seq_bn and seq_bn"));
  }
}

void read_function(const JsonKeys& keys, BottleneckOptions& options) {
  constexpr const char* kKey = "non_linearity";
  const std::string name = keys.text(kKey);
  for (const auto& [known, function] : kFunctions) {
    if (name == known) options.activation = function;
  }
  if (!name.empty() && !options.activation) {
    keys.refuse(kKey, concat("is ", quote(name), ", wanted relu, swish or a kind of gelu"));
  }
}

}  // namespace

bool is_adapter_hub_config(const JsonKeys& keys) {
  return !keys.has("peft_type") && keys.has("config");
}

Json bottleneck_keys(const BottleneckOptions& options, const ModelConfig& config,
                     const std::filesystem::path& base) {
  Json inner = plain_keys();
  inner.update({{"mh_adapter", options.is_houlsby()},
                {"non_linearity", name_of(options.function())},
                {"original_ln_before", !options.is_houlsby()},
                {"reduction_factor", python_number(options.reduction_factor)}});
  return {{"config", std::move(inner)},
          {"hidden_size", config.hidden_size},
          {"model_class", family_of(config.model_type).architecture},
          {"model_name", std::filesystem::absolute(base).string()},
          {"model_type", config.model_type},
          {"name", options.name},
          {"version", "adapters.1.3.0"}};
}

void read_bottleneck(const JsonKeys& keys, BottleneckOptions& options) {
  options.name = keys.text("name");
  const std::string version = keys.text("version");
  if (!version.empty() && !version.starts_with(kVersionPrefix)) {
    keys.refuse("version",
                concat("is ", shown(version), ", wanted one that begins with ", kVersionPrefix));
  }
  const JsonKeys inner = keys.below("config");
  require_plain(inner);
  read_placement(inner, options);
  read_function(inner, options);
  options.reduction_factor = inner.positive("reduction_factor");
  if (options.reduction_factor < BottleneckOptions::kLowestReduction) {
    inner.refuse("reduction_factor", concat("is ", options.reduction_factor,
                                            ", wanted a number from 0.015625 (1/64) on"));
  }
  const Json plain = plain_keys();  // Of those that are left none changes what is computed here.
  std::vector<const char*> harmless;
  for (const auto& [key, value] : plain.items()) harmless.push_back(key.c_str());
  inner.refuse_others(harmless);
}

}  // namespace temper
