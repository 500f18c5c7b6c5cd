// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "model/model_config.h"

namespace temper {

/// How a family of models differs from Llama: what its Hugging Face configuration class assumes
/// where a key is absent, and which keys it knows. A further family is a further entry.
struct Family {
  enum class Bias { kNever, kAlways, kIfAttentionBias };
  enum class Windows {
    kNone,
    kEveryLayer,  ///< `sliding_window`, where it is not null.
    kByLayer,     ///< Under `use_sliding_window`: `layer_types`, or from `max_window_layers` on.
  };

  std::string_view model_type;
  std::string_view architecture;
  int64_t default_key_value_heads = 0;  ///< 0: as many as heads.
  int64_t default_head_dim = 0;         ///< 0: hidden_size / num_heads.
  int64_t default_max_positions = 0;
  Bias qkv_bias = Bias::kNever;
  Bias output_bias = Bias::kNever;
  bool knows_mlp_bias = false;
  bool has_qk_norm = false;
  Windows windows = Windows::kNone;
};

/// All families that are computed exactly as their reference does.
/// Source: transformers 5.24, configuration_<model_type>.py and modeling_<model_type>.py.
std::span<const Family> families();

/// Throws: ModelError that lists the known ones.
const Family& family_of(std::string_view model_type);

/// Throws: ModelError that lists every problem: sizes that are not positive or do not divide, a
/// family that is not known, windows that are not one for each layer.
void validate(const ModelConfig& config);

}  // namespace temper
