// SPDX-License-Identifier: Apache-2.0
#include "model/linear_modules.h"

namespace temper {

std::string last_part(const std::string& path) { return path.substr(path.rfind('.') + 1); }

std::vector<LinearModule> linear_modules(const ModelConfig& config) {
  using enum Product;
  const int64_t hidden = config.hidden_size, inner = config.intermediate_size;
  const int64_t queries = config.num_heads * config.head_dim;
  const int64_t keys = config.num_key_value_heads * config.head_dim;
  const bool qkv_bias = config.has_qkv_bias, mlp_bias = config.has_mlp_bias;
  return {
      {"self_attn.q_proj", kQueriesKeysValues, queries, hidden, 0, qkv_bias},
      {"self_attn.k_proj", kQueriesKeysValues, keys, hidden, queries, qkv_bias},
      {"self_attn.v_proj", kQueriesKeysValues, keys, hidden, queries + keys, qkv_bias},
      {"self_attn.o_proj", kOutput, hidden, queries, 0, config.has_output_bias},
      {"mlp.gate_proj", kGateUp, inner, hidden, 0, mlp_bias},
      {"mlp.up_proj", kGateUp, inner, hidden, inner, mlp_bias},
      {"mlp.down_proj", kDown, hidden, inner, 0, mlp_bias},
  };
}

}  // namespace temper
