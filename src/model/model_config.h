// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace temper {

/// How rotary frequencies are stretched beyond the original context.
struct RopeOptions {
  enum class Scaling { kNone, kLinear, kLlama3 };
  double theta = 10000.0;
  Scaling scaling = Scaling::kNone;
  double factor = 1.0;
  double low_frequency_factor = 1.0;      ///< llama3 only.
  double high_frequency_factor = 4.0;     ///< llama3 only.
  int64_t original_max_positions = 8192;  ///< llama3 only.
};

/// What a decoder of the Llama family is, in numbers; read from a Hugging Face config.json.
struct ModelConfig {
  std::string model_type;  ///< "llama", "mistral", "qwen2", "qwen3".
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t num_layers = 0;
  int64_t num_heads = 0;
  int64_t num_key_value_heads = 0;
  int64_t head_dim = 0;
  int64_t max_positions = 0;
  double norm_epsilon = 1e-6;
  RopeOptions rope;
  bool has_tied_head = false;
  bool has_qkv_bias = false;     ///< Qwen2; Llama with attention_bias.
  bool has_output_bias = false;  ///< Llama with attention_bias: o_proj too.
  bool has_mlp_bias = false;     ///< Llama with mlp_bias.
  bool has_qk_norm = false;      ///< Qwen3: RMSNorm per head before the rotation.
  std::vector<int64_t> windows;  ///< [num_layers], sliding window; 0 where attention is full.
  std::vector<int64_t> eos_token_ids;
};

}  // namespace temper
