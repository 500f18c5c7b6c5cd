// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/peft/combined_adapter.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "core/concat.h"
#include "core/error.h"

namespace temper {
namespace {

// As peft counts: room for every module.
int64_t largest_rank(const LoraOptions& options) {
  int64_t rank = options.rank;
  for (const auto& one : options.rank_pattern) rank = std::max(rank, one.rank);
  return rank;
}

std::string with_escaped_dots(const std::string& path) {
  std::string pattern;
  for (const char c : path) pattern += c == '.' ? std::string("\\.") : std::string(1, c);
  return pattern;
}

void require_combinable(const std::vector<WeightedAdapter>& adapters,
                        const CombineOptions& options) {
  if (adapters.size() == 1 && options.kind != CombineOptions::Kind::kLinear) {
    throw ConfigError(concat(name_of(options.kind), " combines two or more adapters, and ",
                             adapters[0].adapter->path().string(), " is the only one"),
                      "add another --adapter, or combine linearly");
  }
  const AdapterFolder& first = *adapters[0].adapter;
  for (const WeightedAdapter& weighted : adapters) {
    const LoraOptions &a = first.options().lora, &b = weighted.adapter->options().lora;
    const std::string both =
        concat(first.path().string(), " and ", weighted.adapter->path().string());
    if (largest_rank(a) != largest_rank(b)) {
      throw ConfigError(concat("the adapters in ", both, " have the ranks ", largest_rank(a),
                               " and ", largest_rank(b), ", which cannot be combined"),
                        "combine adapters of one rank");
    }
    if (b.uses_dora || !b.saved.modules.empty() || !b.saved.tokens.empty()) {
      throw ConfigError(concat("the adapter in ", weighted.adapter->path().string(),
                               " has more than low-rank additions (DoRA, modules_to_save or "
                               "trainable tokens), which cannot be combined"),
                        "combine adapters without these");
    }
    if (a.target_pattern.empty() != b.target_pattern.empty()) {
      throw ConfigError(concat("of the adapters in ", both,
                               " one names its target_modules in a list and one by an expression"),
                        "write both alike in their adapter_config.json");
    }
  }
}

}  // namespace

CombinedAdapter::CombinedAdapter(std::vector<WeightedAdapter> adapters,
                                 const CombineOptions& options, const ModelFolder& base)
    : adapters_(std::move(adapters)), options_(options), config_(base.config()) {
  require_combinable(adapters_, options_);
  for (const WeightedAdapter& weighted : adapters_) add_modules(weighted);
  const LoraOptions all;
  std::vector<LoraModule> order = lora_modules(all, config_);
  std::vector<LoraModule> sorted;
  for (const LoraModule& place : order) {
    const auto found = std::ranges::find(modules_, place.path, &LoraModule::path);
    if (found != modules_.end()) sorted.push_back(*found);
  }
  modules_ = std::move(sorted);
}

void CombinedAdapter::add_modules(const WeightedAdapter& weighted) {
  own_.push_back(lora_modules(weighted.adapter->options().lora, config_));
  for (const LoraModule& module : own_.back()) {
    const auto known = std::ranges::find(modules_, module.path, &LoraModule::path);
    if (known == modules_.end()) {
      modules_.push_back(module);
      modules_.back().scale = 1.0;
    } else if (known->rank != module.rank) {
      throw ConfigError(concat("the module ", module.path, " has rank ", module.rank,
                               " in the adapter in ", weighted.adapter->path().string(), " and ",
                               known->rank, " in one before it, which cannot be combined"),
                        "combine adapters of one rank");
    }
  }
}

at::Tensor CombinedAdapter::tensor(const LoraModule& module, const char* part) const {
  const std::string name = tensor_name(module, part);
  const bool is_down = part == std::string(kLoraDown);
  std::vector<at::Tensor> tensors;
  std::vector<double> weights;
  for (size_t i = 0; i < adapters_.size(); ++i) {
    const auto own = std::ranges::find(own_[i], module.path, &LoraModule::path);
    if (own == own_[i].end()) continue;
    const double weight = adapters_[i].weight * own->scale;
    // The sign goes to one of the two.
    weights.push_back(std::sqrt(std::abs(weight)) * (is_down && weight < 0.0 ? -1.0 : 1.0));
    tensors.push_back(read_tensor(*adapters_[i].adapter->weights().find(name)));
  }
  at::Tensor combined = combine(tensors, weights, options_, name);
  if (!at::isfinite(combined).all().item<bool>()) {
    throw ModelError(concat("combining the adapters makes ", name, " not finite"),
                     "use adapters of runs that converged, and smaller weights");
  }
  return combined;
}

LoraOptions CombinedAdapter::options() const {
  const LoraOptions& first = adapters_[0].adapter->options().lora;
  LoraOptions options;
  options.rank = largest_rank(first);
  options.alpha = static_cast<double>(options.rank);
  options.dropout = first.dropout;
  options.init = first.init;
  std::set<std::string> names;
  std::set<int64_t> layers;
  for (const LoraModule& module : modules_) {
    names.insert(last_part(module.path));
    layers.insert(module.layer);
    if (module.rank == options.rank) continue;
    const std::string pattern = with_escaped_dots(module.path);
    options.rank_pattern.push_back({pattern, module.rank});
    options.alpha_pattern.push_back({pattern, static_cast<double>(module.rank)});
  }
  options.targets.assign(names.begin(), names.end());
  if (std::ssize(layers) < config_.num_layers) options.layers.assign(layers.begin(), layers.end());
  if (lora_modules(options, config_).size() == modules_.size()) return options;
  options.layers.clear();
  options.targets.clear();
  for (const LoraModule& module : modules_) options.targets.push_back(module.path);
  return options;
}

}  // namespace temper
