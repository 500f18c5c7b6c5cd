// SPDX-License-Identifier: Apache-2.0
#include "model/decoder_units.h"

#include <string>
#include <utility>

#include "core/concat.h"

namespace temper {
namespace {

class SlotList {
 public:
  explicit SlotList(std::string prefix) : prefix_(std::move(prefix)) {}

  void matrix(const std::string& module, int64_t out, int64_t in) {
    slots_.push_back({.name = prefix_ + module + ".weight", .shape = {out, in}});
  }
  void norm(const std::string& module, int64_t size) { vector(module + ".weight", size); }
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
  const int64_t hidden = config.hidden_size, inner = config.intermediate_size;
  const int64_t queries = config.num_heads * config.head_dim;
  const int64_t keys = config.num_key_value_heads * config.head_dim;
  SlotList slots(concat("model.layers.", layer, "."));
  slots.matrix("self_attn.q_proj", queries, hidden);
  slots.matrix("self_attn.k_proj", keys, hidden);
  slots.matrix("self_attn.v_proj", keys, hidden);
  slots.matrix("self_attn.o_proj", hidden, queries);
  slots.matrix("mlp.gate_proj", inner, hidden);
  slots.matrix("mlp.up_proj", inner, hidden);
  slots.matrix("mlp.down_proj", hidden, inner);
  if (config.has_qkv_bias) {
    slots.bias("self_attn.q_proj", queries);
    slots.bias("self_attn.k_proj", keys);
    slots.bias("self_attn.v_proj", keys);
  }
  if (config.has_output_bias) slots.bias("self_attn.o_proj", hidden);
  if (config.has_mlp_bias) {
    slots.bias("mlp.gate_proj", inner);
    slots.bias("mlp.up_proj", inner);
    slots.bias("mlp.down_proj", hidden);
  }
  if (config.has_qk_norm) {
    slots.norm("self_attn.q_norm", config.head_dim);
    slots.norm("self_attn.k_norm", config.head_dim);
  }
  slots.norm("input_layernorm", hidden);
  slots.norm("post_attention_layernorm", hidden);
  return slots.finish(concat("layers.", layer));
}

}  // namespace

std::vector<UnitLayout> decoder_units(const ModelConfig& config) {
  std::vector<UnitLayout> units;
  SlotList embedding("model.");
  embedding.matrix("embed_tokens", config.vocab_size, config.hidden_size);
  units.push_back(embedding.finish("embed"));
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    units.push_back(make_block_layout(config, layer));
  }
  SlotList head("");
  if (!config.has_tied_head) head.matrix("lm_head", config.vocab_size, config.hidden_size);
  head.norm("model.norm", config.hidden_size);
  units.push_back(head.finish("head"));
  return units;
}

}  // namespace temper
