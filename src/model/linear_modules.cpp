// SPDX-License-Identifier: Apache-2.0
#include "model/linear_modules.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "core/concat.h"
#include "model/family.h"
#include "model/tensor_names.h"

namespace temper {
namespace {

// A module's name in files and in transformers; empty where there is no such module.
struct ModuleName {
  std::string file, module;

  ModuleName() = default;
  explicit ModuleName(std::string_view both) : file(both), module(both) {}
  ModuleName(std::string_view in_file, std::string_view in_memory)
      : file(in_file), module(in_memory) {}
};

// Those of a block, by the member that has them.
class NamesOfBlock {
 public:
  explicit NamesOfBlock(const ModelConfig& config)
      : files_(block_names(config)), modules_(block_names(config, NameKind::kModule)) {}

  ModuleName operator()(std::string_view BlockNames::*which) const {
    return {files_.*which, modules_.*which};
  }

 private:
  BlockNames files_, modules_;
};

// The matrices of an MLP.
struct MlpModules {
  ModuleName gate_up, gate, up, down;
};

// The modules of a block as they come.
class ModuleList {
 public:
  explicit ModuleList(bool is_transposed) : is_transposed_(is_transposed) {}

  void add(const ModuleName& name, Product product, ProductSize size, bool has_bias) {
    if (name.file.empty()) return;
    const bool follows = !modules_.empty() && modules_.back().product == product &&
                         modules_.back().expert == expert_;
    const int64_t first = follows ? modules_.back().first_column + modules_.back().out : 0;
    modules_.push_back({name.file, product, size.out, size.in, first, has_bias, is_transposed_,
                        name.module == name.file ? std::string() : name.module, expert_});
  }

  void add_mlp(const MlpModules& mlp, int64_t width, int64_t hidden, bool has_bias) {
    add(mlp.gate_up, Product::kGateUp, {2 * width, hidden}, has_bias);
    add(mlp.gate, Product::kGateUp, {width, hidden}, has_bias);
    add(mlp.up, Product::kGateUp, {width, hidden}, has_bias);
    add(mlp.down, Product::kDown, {hidden, width}, has_bias);
  }

  void begin_expert(int64_t expert) { expert_ = expert; }
  std::vector<LinearModule> take() { return std::move(modules_); }

 private:
  std::vector<LinearModule> modules_;
  bool is_transposed_;
  int64_t expert_ = LinearModule::kNoExpert;
};

void add_attention(const ModelConfig& config, ModuleList& modules) {
  const NamesOfBlock names(config);
  const int64_t hidden = config.hidden_size;
  const int64_t queries = config.num_heads * config.head_dim;
  const int64_t keys = config.num_key_value_heads * config.head_dim;
  const auto add = [&](std::string_view BlockNames::*which, int64_t out) {
    modules.add(names(which), Product::kQueriesKeysValues, {out, hidden}, config.has_qkv_bias);
  };
  if (names(&BlockNames::queries_keys_values).file.empty()) {
    add(&BlockNames::queries, queries);
    add(&BlockNames::keys, keys);
    add(&BlockNames::values, keys);
  } else {
    add(&BlockNames::queries_keys_values, queries + 2 * keys);
  }
  modules.add(names(&BlockNames::output), Product::kOutput, {hidden, queries},
              config.has_output_bias);
}

// The same three names below another module's.
MlpModules modules_below(const std::string& path, const ExpertNames& names) {
  const auto below = [&](std::string_view name) { return ModuleName(concat(path, '.', name)); };
  return {{}, below(names.gate), below(names.up), below(names.down)};
}

void add_experts(const ModelConfig& config, ModuleList& modules) {
  const ExpertOptions& options = config.experts;
  const ExpertNames& names = family_of(config.model_type).experts.names;
  if (options.shared_width > 0) {
    const MlpModules fused{ModuleName(names.shared_gate_up), {}, {}, ModuleName(names.shared_down)};
    modules.add_mlp(names.shared.empty() ? fused : modules_below(std::string(names.shared), names),
                    options.shared_width, config.hidden_size, false);
  }
  if (!names.all_gate_up.empty()) return;
  for (int64_t expert = 0; expert < options.count; ++expert) {
    modules.begin_expert(expert);
    modules.add_mlp(modules_below(concat(names.experts, '.', expert), names), options.width,
                    config.hidden_size, false);
  }
}

}  // namespace

std::string last_part(const std::string& path) { return path.substr(path.rfind('.') + 1); }

std::vector<LinearModule> linear_modules(const ModelConfig& config, int64_t layer) {
  ModuleList modules(family_of(config.model_type).is_transposed);
  add_attention(config, modules);
  if (config.has_experts(layer)) {
    add_experts(config, modules);
  } else {
    const NamesOfBlock names(config);
    modules.add_mlp({names(&BlockNames::gate_up), names(&BlockNames::gate), names(&BlockNames::up),
                     names(&BlockNames::down)},
                    config.intermediate_size, config.hidden_size, config.has_mlp_bias);
  }
  return modules.take();
}

std::vector<LinearModule> all_modules(const ModelConfig& config) {
  std::vector<LinearModule> all;
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    for (LinearModule& module : linear_modules(config, layer)) {
      if (module.expert > 0) break;
      const bool is_new = std::ranges::none_of(
          all, [&](const LinearModule& known) { return known.name == module.name; });
      if (is_new) all.push_back(std::move(module));
    }
    if (config.experts.count == 0) break;  // All are alike.
  }
  return all;
}

std::vector<LinearModule> common_modules(const ModelConfig& config) {
  const std::vector<LinearModule> all = all_modules(config);
  std::vector<LinearModule> common;
  for (const LinearModule& module : all) {
    const bool is_like_experts = std::ranges::any_of(all, [&](const LinearModule& other) {
      return other.expert != LinearModule::kNoExpert &&
             last_part(other.name) == last_part(module.name);
    });
    if (!is_like_experts) common.push_back(module);
  }
  return common;
}

std::array<ProductSize, 4> product_sizes(const ModelConfig& config) {
  std::array<ProductSize, 4> sizes{};
  const auto raise = [&](Product product, ProductSize to) {
    ProductSize& size = sizes[static_cast<size_t>(product)];
    size = {std::max(size.out, to.out), std::max(size.in, to.in)};
  };
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    std::array<ProductSize, 4> own{};
    for (const LinearModule& module : linear_modules(config, layer)) {
      if (module.expert != LinearModule::kNoExpert) continue;
      ProductSize& size = own[static_cast<size_t>(module.product)];
      size = {size.out + module.out, module.in};
    }
    if (config.has_experts(layer)) {
      const int64_t width = config.experts.num_chosen * config.experts.width;
      own[2] = {own[2].out + 2 * width, config.hidden_size};
      own[3] = {config.hidden_size, own[3].in + width};
    }
    for (size_t product = 0; product < own.size(); ++product) {
      raise(static_cast<Product>(product), own[product]);
    }
    if (config.experts.count == 0) break;  // All are alike.
  }
  return sizes;
}

std::vector<Range> expert_groups(const ModelConfig& config) {
  const ExpertOptions& options = config.experts;
  if (!family_of(config.model_type).experts.names.all_gate_up.empty()) return {};
  const int64_t size = 3 * options.width * config.hidden_size;
  const int64_t most = std::clamp<int64_t>(options.most_in_unit / size, 1, options.count);
  std::vector<Range> groups;
  for (int64_t begin = 0; begin < options.count; begin += most) {
    groups.push_back({begin, std::min(begin + most, options.count)});
  }
  return groups;
}

double share_of_tokens(const ModelConfig& config, const std::string& tensor) {
  if (config.experts.count == 0) return 1.0;
  const ExpertNames& names = family_of(config.model_type).experts.names;
  const auto is_one = [&](std::string_view name) {
    return !name.empty() && tensor.ends_with(concat('.', name));
  };
  const bool is_experts = names.all_gate_up.empty()
                              ? tensor.find(concat('.', names.experts, '.')) != std::string::npos
                              : is_one(names.all_gate_up) || is_one(names.all_down);
  return is_experts ? static_cast<double>(config.experts.num_chosen) /
                          static_cast<double>(config.experts.count)
                    : 1.0;
}

}  // namespace temper
