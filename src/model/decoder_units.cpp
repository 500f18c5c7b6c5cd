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
  void matrices(std::string_view tensor, std::vector<int64_t> shape) {
    slots_.push_back({.name = concat(prefix_, tensor), .shape = std::move(shape)});
  }
  void router(std::string_view module, int64_t out, int64_t in) {
    slots_.push_back(
        {.name = concat(prefix_, module, ".weight"), .shape = {out, in}, .is_router = true});
  }
  void norm(std::string_view module, int64_t size, const NormKind& kind) {
    if (module.empty()) return;
    if (kind.has_scale) vector(concat(module, ".weight"), size);
    if (kind.has_bias) vector(concat(module, ".bias"), size);
  }
  void bias(const std::string& module, int64_t size) { vector(module + ".bias", size); }
  void biases(std::string_view tensor, int64_t count, int64_t size) {
    if (tensor.empty()) return;
    slots_.push_back({.name = concat(prefix_, tensor), .shape = {count, size}, .decays = false});
  }
  void vector(const std::string& name, int64_t size) {
    slots_.push_back({.name = prefix_ + name, .shape = {size}, .decays = false});
  }

  UnitLayout finish(const std::string& unit, ExpertGroup experts = {}) {
    return {unit, std::move(slots_), UnitLayout::Use::kPublished, experts};
  }

 private:
  std::string prefix_;
  std::vector<TensorSlot> slots_;
};

// What a block has beside linear modules where experts are in the place of its MLP.
void add_experts(const ModelConfig& config, SlotList& slots) {
  const ExpertOptions& options = config.experts;
  const Family::Experts& family = family_of(config.model_type).experts;
  const ExpertNames& names = family.names;
  const int64_t hidden = config.hidden_size;
  const auto all = [&](std::string_view tensor, int64_t out, int64_t in) {
    slots.matrices(tensor, family.is_transposed ? std::vector{options.count, in, out}
                                                : std::vector{options.count, out, in});
  };
  if (!names.all_gate_up.empty()) {
    all(names.all_gate_up, 2 * options.width, hidden);
    all(names.all_down, hidden, options.width);
  }
  if (!names.shared_gate.empty()) slots.matrix(std::string(names.shared_gate), {1, hidden});
  slots.router(names.router, options.count, hidden);
}

void add_expert_biases(const ModelConfig& config, SlotList& slots) {
  const ExpertOptions& options = config.experts;
  const Family::Experts& family = family_of(config.model_type).experts;
  if (family.has_router_bias) slots.bias(std::string(family.names.router), options.count);
  slots.biases(family.names.all_gate_up_bias, options.count, 2 * options.width);
  slots.biases(family.names.all_down_bias, options.count, config.hidden_size);
}

UnitLayout make_block_layout(const ModelConfig& config, int64_t layer) {
  SlotList slots(block_name(config, layer) + ".");
  const std::vector<LinearModule> modules = linear_modules(config, layer);
  for (const LinearModule& module : modules) {
    if (module.expert == LinearModule::kNoExpert) slots.matrix(module.name, module.stored_shape());
  }
  if (config.has_experts(layer)) add_experts(config, slots);
  for (const LinearModule& module : modules) {
    if (module.has_bias) slots.bias(module.name, module.out);
  }
  const Family& family = family_of(config.model_type);
  const BlockNames names = block_names(config);
  if (config.has_experts(layer)) add_expert_biases(config, slots);
  if (!names.sinks.empty()) slots.vector(std::string(names.sinks), config.num_heads);
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

// The experts of a block that have matrices of their own, some a unit.
void add_expert_units(const ModelConfig& config, int64_t layer, std::vector<UnitLayout>& units) {
  const std::vector<LinearModule> modules = linear_modules(config, layer);
  int64_t number = 0;
  for (const Range experts : expert_groups(config)) {
    SlotList slots(block_name(config, layer) + ".");
    for (const LinearModule& module : modules) {
      if (module.expert < experts.begin || module.expert >= experts.end) continue;
      slots.matrix(module.name, module.stored_shape());
    }
    units.push_back(slots.finish(concat("layers.", layer, ".experts.", number), {layer, number}));
    ++number;
  }
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
  for (size_t unit = 0; unit < units.size(); ++unit) {
    const ExpertGroup& experts = units[unit].expert_group();
    if (experts.is_defined()) users[unit] = static_cast<int>(1 + experts.layer);
  }
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
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    if (config.has_experts(layer)) add_expert_units(config, layer, units);
  }
  return units;
}

}  // namespace temper
