// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "checkpoint/json_keys.h"
#include "model/adapter/lora.h"
#include "model/model_config.h"

namespace temper {

/// The keys of peft's adapter_config.json that say what a LoRA adapter is.
Json lora_keys(const LoraOptions& options, const ModelConfig& config);

/// Reads them; notes a problem for each setting that changes the result in a way that is not
/// computed here.
void read_lora(const JsonKeys& keys, LoraOptions& options);

}  // namespace temper
