// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/expert_config.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "core/concat.h"
#include "io/json.h"

namespace temper {
namespace {

// More than any model has.
constexpr Range kExpertSizes{1, int64_t{1} << 21};

// Which layers have experts.
std::vector<bool> read_expert_layers(const JsonKeys& keys, const Family& family,
                                     const ModelConfig& config) {
  std::vector<bool> layers(static_cast<size_t>(config.num_layers), true);
  if (family.experts.begins_dense) {
    const int64_t first = keys.integer("first_k_dense_replace", {0, config.num_layers + 1}, 1);
    std::fill_n(layers.begin(), first, false);
    keys.has("num_nextn_predict_layers");  // What predicts further tokens is passed on.
  }
  if (!family.experts.knows_dense_layers) return layers;
  const int64_t step = keys.integer("decoder_sparse_step", Range{1, 10001}, 1);
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    layers[static_cast<size_t>(layer)] = (layer + 1) % step == 0;
  }
  if (!keys.has("mlp_only_layers")) return layers;
  const Json& list = keys["mlp_only_layers"];
  for (const Json& layer : list.is_array() ? list : Json::array({list})) {
    if (!layer.is_number_unsigned() || layer.get<int64_t>() >= config.num_layers) {
      keys.refuse("mlp_only_layers", concat("is ", shown(list), ", wanted a list of layers below ",
                                            config.num_layers));
      break;
    }
    layers[layer.get<size_t>()] = false;
  }
  return layers;
}

void read_groups(const JsonKeys& keys, ExpertOptions& options) {
  options.num_groups = keys.integer("n_group", kExpertSizes, 1);
  options.chosen_groups = keys.integer("topk_group", kExpertSizes, 1);
  options.weight_scale = keys.positive("routed_scaling_factor", 1.0);
  const int64_t size = options.count / options.num_groups;
  if (options.count % options.num_groups != 0 || size < 2) {
    keys.refuse("n_group", concat("is ", options.num_groups, ", but ", options.count,
                                  " experts are no such groups of two or more"));
  } else if (options.chosen_groups > options.num_groups ||
             options.chosen_groups * size < options.num_chosen) {
    keys.refuse("topk_group", concat("is ", options.chosen_groups, ", but there are ",
                                     options.num_groups, " groups of ", size, " experts, of which ",
                                     options.num_chosen, " are chosen"));
  }
}

// What wants experts chosen alike.
void read_balance(const JsonKeys& keys, double fallback, ExpertOptions& options) {
  const bool is_zero = keys.has("router_aux_loss_coef") && keys["router_aux_loss_coef"] == 0.0;
  const double factor = is_zero ? 0.0 : keys.positive("router_aux_loss_coef", fallback);
  if (keys.flag("output_router_logits", false)) options.balance_factor = factor;
}

}  // namespace

void read_experts(const JsonKeys& keys, const Family& family, ModelConfig& config) {
  const Family::Experts& known = family.experts;
  if (known.count_key.empty()) return;
  ExpertOptions& options = config.experts;
  const auto size = [&](std::string_view key, int64_t fallback) {
    const std::string name = std::string(key);
    return fallback > 0 ? keys.integer(name.c_str(), kExpertSizes, fallback)
                        : keys.integer(name.c_str(), kExpertSizes);
  };
  options.count = size(known.count_key, known.default_count);
  options.num_chosen = size("num_experts_per_tok", known.default_chosen);
  options.width = size(known.width_key, known.default_width);
  if (!known.shared_width_key.empty()) {
    options.shared_width = keys.integer(std::string(known.shared_width_key).c_str(),
                                        {0, kExpertSizes.end}, known.default_shared_width) *
                           (known.counts_shared ? options.width : 1);
  }
  options.renormalises =
      known.renormalises.key.empty()
          ? known.renormalises.is_set
          : keys.flag(std::string(known.renormalises.key).c_str(), known.renormalises.is_set);
  if (known.has_groups) read_groups(keys, options);
  if (known.default_bound > 0.0) {
    options.bound = keys.positive("swiglu_limit", known.default_bound);
    keys.require("swiglu_alpha", 1.702);
  }
  if (known.has_balance_loss) {
    read_balance(keys, known.default_balance_factor, options);
  } else {
    keys.flag("output_router_logits", false);  // By which the class returns them, and no more.
  }
  options.layers = read_expert_layers(keys, family, config);
  if (options.num_chosen > options.count) {
    keys.refuse("num_experts_per_tok",
                concat("is ", options.num_chosen, ", but there are ", options.count, " experts"));
  }
}

}  // namespace temper
