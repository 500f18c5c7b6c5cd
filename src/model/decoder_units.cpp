// SPDX-License-Identifier: Apache-2.0
#include "model/decoder_units.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <string_view>
#include <utility>

#include "core/concat.h"
#include "model/family.h"
#include "model/linear_modules.h"
#include "model/tensor_names.h"

namespace temper {
namespace {

class SlotList {
 public:
  explicit SlotList(std::string prefix) : prefix_(std::move(prefix)) {}

  void matrix(const std::string& module, std::vector<int64_t> shape) {
    slots_.push_back({.name = prefix_ + module + ".weight", .shape = std::move(shape)});
  }
  void norm(std::string_view module, int64_t size, const NormKind& kind) {
    if (module.empty()) return;
    if (kind.has_scale) vector(concat(module, ".weight"), size);
    if (kind.has_bias) vector(concat(module, ".bias"), size);
  }
  void bias(const std::string& module, int64_t size) { vector(module + ".bias", size); }

  UnitLayout finish(const std::string& unit) { return {unit, std::move(slots_)}; }

 private:
  void vector(const std::string& name, int64_t size) {
    slots_.push_back({.name = prefix_ + name, .shape = {size}, .decays = false});
  }

  std::string prefix_;
  std::vector<TensorSlot> slots_;
};

UnitLayout make_block_layout(const ModelConfig& config, int64_t layer) {
  SlotList slots(block_name(config, layer) + ".");
  const std::vector<LinearModule> modules = linear_modules(config);
  for (const LinearModule& module : modules) slots.matrix(module.name, module.stored_shape());
  for (const LinearModule& module : modules) {
    if (module.has_bias) slots.bias(module.name, module.out);
  }
  const Family& family = family_of(config.model_type);
  const BlockNames names = block_names(config);
  if (config.has_qk_norm) {
    const bool is_of_all = family.query_key_norm == Family::QueryKeyNorm::kAllHeads;
    slots.norm(names.query_norm, (is_of_all ? config.num_heads : 1) * config.head_dim, {});
    slots.norm(names.key_norm, (is_of_all ? config.num_key_value_heads : 1) * config.head_dim, {});
  }
  for (const std::string_view name : norm_names(names)) {
    slots.norm(name, config.hidden_size, family.norm);
  }
  return slots.finish(concat("layers.", layer));
}

}  // namespace

int DecoderUnits::lowest_trained() const {
  int lowest = users.empty() ? 0 : 1 + std::ranges::max(users);
  for (size_t unit = 0; unit < layouts.size(); ++unit) {
    if (layouts[unit].is_trained()) lowest = std::min(lowest, users[unit]);
  }
  return lowest;
}

DecoderUnits undivided(std::vector<UnitLayout> units) {
  std::vector<int> users(units.size());
  std::iota(users.begin(), users.end(), 0);
  return {std::move(units), std::move(users)};
}

std::vector<UnitLayout> decoder_units(const ModelConfig& config) {
  std::vector<UnitLayout> units;
  SlotList embedding("");
  embedding.matrix(embedding_name(config), {config.vocab_size, config.hidden_size});
  if (const std::string positions = positions_name(config); !positions.empty()) {
    embedding.matrix(positions, {config.max_positions, config.hidden_size});
  }
  units.push_back(embedding.finish("embed"));
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    units.push_back(make_block_layout(config, layer));
  }
  SlotList head("");
  if (!config.has_tied_head) {
    head.matrix(head_name(config), {config.vocab_size, config.hidden_size});
  }
  if (config.has_head_bias) head.bias(head_name(config), config.vocab_size);
  head.norm(final_norm_name(config), config.hidden_size, family_of(config.model_type).norm);
  units.push_back(head.finish("head"));
  return units;
}

}  // namespace temper
