// SPDX-License-Identifier: Apache-2.0
#include "model/linear_modules.h"

#include <string_view>

#include "model/family.h"
#include "model/tensor_names.h"

namespace temper {

std::string last_part(const std::string& path) { return path.substr(path.rfind('.') + 1); }

std::vector<LinearModule> linear_modules(const ModelConfig& config) {
  using enum Product;
  const BlockNames names = block_names(config);
  const BlockNames module_names = block_names(config, NameKind::kModule);
  const bool is_transposed = family_of(config.model_type).is_transposed;
  const int64_t hidden = config.hidden_size, inner = config.intermediate_size;
  const int64_t queries = config.num_heads * config.head_dim;
  const int64_t keys = config.num_key_value_heads * config.head_dim;
  std::vector<LinearModule> modules;
  const auto add = [&](std::string_view BlockNames::*which, Product product, ProductSize size,
                       bool has_bias) {
    const std::string name(names.*which), module(module_names.*which);
    if (name.empty()) return;
    const bool follows = !modules.empty() && modules.back().product == product;
    const int64_t first = follows ? modules.back().first_column + modules.back().out : 0;
    modules.push_back({name, product, size.out, size.in, first, has_bias, is_transposed,
                       module == name ? std::string() : module});
  };
  const bool qkv_bias = config.has_qkv_bias, mlp_bias = config.has_mlp_bias;
  if (names.queries_keys_values.empty()) {
    add(&BlockNames::queries, kQueriesKeysValues, {queries, hidden}, qkv_bias);
    add(&BlockNames::keys, kQueriesKeysValues, {keys, hidden}, qkv_bias);
    add(&BlockNames::values, kQueriesKeysValues, {keys, hidden}, qkv_bias);
  }
  add(&BlockNames::queries_keys_values, kQueriesKeysValues, {queries + 2 * keys, hidden}, qkv_bias);
  add(&BlockNames::output, kOutput, {hidden, queries}, config.has_output_bias);
  add(&BlockNames::gate_up, kGateUp, {2 * inner, hidden}, mlp_bias);
  add(&BlockNames::gate, kGateUp, {inner, hidden}, mlp_bias);
  add(&BlockNames::up, kGateUp, {inner, hidden}, mlp_bias);
  add(&BlockNames::down, kDown, {hidden, inner}, mlp_bias);
  return modules;
}

std::array<ProductSize, 4> product_sizes(const ModelConfig& config) {
  std::array<ProductSize, 4> sizes{};
  for (const LinearModule& module : linear_modules(config)) {
    ProductSize& size = sizes[static_cast<size_t>(module.product)];
    size = {size.out + module.out, module.in};
  }
  return sizes;
}

}  // namespace temper
