// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>

#include "checkpoint/json_keys.h"
#include "model/adapter/bottleneck.h"
#include "model/model_config.h"

namespace temper {

/// Whether an adapter_config.json is one of AdapterHub's: peft has a `peft_type`, and no `config`.
bool is_adapter_hub_config(const JsonKeys& keys);

/// The adapter_config.json that the library `adapters` writes for such an adapter, with every key.
/// `base` is the folder of the model that the adapter belongs to.
/// Source: adapters 1.3, configuration/adapter_config.py and loading.py.
Json bottleneck_keys(const BottleneckOptions& options, const ModelConfig& config,
                     const std::filesystem::path& base);

/// Reads one; what changes the result in a way that is not computed here is noted as a problem.
void read_bottleneck(const JsonKeys& keys, BottleneckOptions& options);

}  // namespace temper
