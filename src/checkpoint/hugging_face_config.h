// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "model/model_config.h"

namespace temper {

/// Reads a Hugging Face config.json of a model that temper computes exactly as its reference does.
/// `unknown_keys`, if given, gets the names of those keys that have a value and that neither the
/// reference's classes of the family nor this function look at: such a file means the same without
/// them. Keys that are known to belong to other arithmetic are refused all the same.
///
/// Absent keys have the reference's defaults. Rotary settings are read from `rope_parameters` and
/// from the older `rope_theta` and `rope_scaling` alike. How the weights are stored is not looked
/// at: see four_bit/stored_format.h. `name` is the file's, for messages.
/// Throws: ModelError that lists every problem of the file by key, among them all settings that
///   change the model's arithmetic in a way that is not computed here.
/// Source: transformers 5.24, configuration_{llama,mistral,qwen2,qwen3}.py, modeling_rope_utils.py.
ModelConfig parse_hugging_face_config(std::string_view text, const std::string& name,
                                      std::vector<std::string>* unknown_keys = nullptr);

/// Takes over the end-of-text tokens that a generation_config.json names, if it names any:
/// generation goes by that file, and its list may be longer than the one in config.json.
/// Throws: ModelError.
void take_end_tokens(std::string_view text, const std::string& name, ModelConfig& config);

}  // namespace temper
