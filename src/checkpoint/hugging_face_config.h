// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "model/model_config.h"

namespace temper {

/// Reads a Hugging Face config.json of a model that temper computes exactly as its reference does.
///
/// Absent keys have the reference's defaults. Rotary settings are read from `rope_parameters` and
/// from the older `rope_theta` and `rope_scaling` alike. How the weights are stored is not looked
/// at: see four_bit/stored_format.h. `name` is the file's, for messages.
/// Throws: ModelError that lists every problem of the file by key, among them all settings that
///   change the model's arithmetic in a way that is not computed here.
/// Source: transformers 5.24, configuration_{llama,mistral,qwen2,qwen3}.py, modeling_rope_utils.py.
ModelConfig parse_hugging_face_config(std::string_view text, const std::string& name);

/// Takes over the end-of-text tokens that a generation_config.json names, if it names any:
/// generation goes by that file, and its list may be longer than the one in config.json.
/// Throws: ModelError.
void take_end_tokens(std::string_view text, const std::string& name, ModelConfig& config);

}  // namespace temper
