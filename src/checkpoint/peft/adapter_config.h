// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "model/adapter/method.h"
#include "model/model_config.h"

namespace temper {

/// The text of an adapter_config.json: that of peft, the keys that every reader knows, sorted; for
/// a bottleneck that of AdapterHub.
/// `base` is the folder of the model that the adapter belongs to.
std::string adapter_config_text(const MethodOptions& options, const ModelConfig& config,
                                const std::filesystem::path& base);

/// Reads an adapter_config.json of either. `name` is the file's, for messages.
/// Throws: ModelError that lists every setting that changes the result in a way that is not
///   computed here.
MethodOptions parse_adapter_config(std::string_view text, const std::string& name);

}  // namespace temper
