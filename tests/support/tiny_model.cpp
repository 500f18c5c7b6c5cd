// SPDX-License-Identifier: Apache-2.0
#include "support/tiny_model.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>
#include <span>
#include <string>

#include "core/hash.h"
#include "core/random.h"
#include "core/targets.h"
#include "model/on_device.h"

namespace temper::testing {

ModelConfig tiny_config(bool has_tied_head) {
  ModelConfig config;
  config.model_type = "llama";
  config.vocab_size = 211;
  config.hidden_size = 48;
  config.intermediate_size = 112;
  config.num_layers = 3;
  config.num_heads = 4;
  config.num_key_value_heads = 2;
  config.head_dim = 12;
  config.max_positions = 64;
  config.has_tied_head = has_tied_head;
  config.windows = {0, 0, 0};
  config.eos_token_ids = {2};
  return config;
}

ModelConfig tiny_config_with_experts() {
  ModelConfig config = tiny_config(/*has_tied_head=*/false);
  config.model_type = "qwen3_moe";
  config.has_qk_norm = true;
  config.experts = {.count = 7,
                    .num_chosen = 2,
                    .width = 20,
                    .renormalises = true,
                    .balance_factor = 0.1,
                    .layers = {true, false, true},
                    .most_in_unit = 2 * 3 * 20 * config.hidden_size};
  return config;
}

namespace {

void fill(const std::string& unit, const TensorSlot& slot, Range range, std::span<float> values) {
  const Digest digest = sha256(unit + slot.name);
  uint64_t key = 0;
  std::memcpy(&key, digest.data(), sizeof key);
  for (int64_t i = range.begin; i < range.end; ++i) {
    const double uniform = random_uniform(key, static_cast<uint64_t>(i)) - 0.5;
    values[static_cast<size_t>(i - range.begin)] =
        static_cast<float>(slot.decays ? 0.3 * uniform : 1.0 + 0.1 * uniform);
  }
}

}  // namespace

void fill_weights(UnitStore& store, std::optional<int> num_units) {
  for (int unit = 0; unit < num_units.value_or(store.num_units()); ++unit) {
    UnitState& state = store.state(unit);
    const auto read = [&](const TensorSlot& slot, Range range, std::span<float> values) {
      fill(state.unit.name(), slot, range, values);
    };
    if (state.four_bit) {
      state.four_bit->read(read, state.kept_weights());
      state.four_bit->finish(state.kept_weights());
    }
    for (const TensorSlot& slot : state.unit.slots()) {
      const Range range = intersection(slot.range(), state.kept);
      if (range.is_empty()) continue;
      const at::Tensor values = at::empty({range.size()}, at::kFloat);
      read(slot, {range.begin - slot.offset, range.end - slot.offset},
           {values.mutable_data_ptr<float>(), static_cast<size_t>(range.size())});
      state.loaded_weights().narrow(0, range.begin - state.kept.begin, range.size()).copy_(values);
    }
    store.publish(unit);
  }
}

PackedBatch tiny_batch(const ModelConfig& config, int64_t index, at::Device device) {
  const auto key = static_cast<uint64_t>(1000 + index);
  std::vector<int64_t> tokens, positions, targets, begins{0};
  const int64_t num_documents = 1 + index % 3;
  for (int64_t document = 0; document < num_documents; ++document) {
    const int64_t length = 3 + (7 * index + 5 * document) % 17;
    for (int64_t p = 0; p < length; ++p) {
      const auto at = static_cast<uint64_t>(tokens.size());
      tokens.push_back(static_cast<int64_t>(random_word(key, at) >> 1) % config.vocab_size);
      positions.push_back(p);
    }
    begins.push_back(static_cast<int64_t>(tokens.size()));
  }
  const bool has_targets = index % 5 != 3;  // Now and then a micro-batch carries no loss at all.
  for (size_t t = 0; t < tokens.size(); ++t) {
    const bool has_next = t + 1 < tokens.size() && positions[t + 1] != 0;
    targets.push_back(has_targets && has_next && t % 4 != 1 ? tokens[t + 1] : kNoTarget);
  }
  PackedBatch batch{on_device(tokens, device), on_device(positions, device),
                    on_device(targets, device), begins};
  if (device.is_cpu()) return batch;
  BatchFacts& facts = batch.facts.emplace(BatchFacts{std::ranges::max(positions)});
  for (size_t t = 0; t < targets.size(); ++t) {
    if (targets[t] != kNoTarget) facts.target_rows.push_back(static_cast<int64_t>(t));
  }
  return batch;
}

}  // namespace temper::testing
