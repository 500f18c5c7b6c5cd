// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "checkpoint/json_keys.h"
#include "model/adapter/lora.h"
#include "model/model_config.h"

namespace temper {

using OrderedJson = nlohmann::ordered_json;

/// The keys of peft's adapter_config.json that say what a LoRA adapter is: sorted, but the patterns
/// in their own order, since the first one that fits a module counts.
OrderedJson lora_keys(const LoraOptions& options, const ModelConfig& config);

/// Reads them. Notes a problem for each setting that changes the result in a way that is not
/// computed here. `ordered` is the same object as the file has it, with the order of its members.
void read_lora(const JsonKeys& keys, const OrderedJson& ordered, LoraOptions& options);

}  // namespace temper
