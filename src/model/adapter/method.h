// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>

#include "model/adapter/adapter.h"
#include "model/adapter/lora.h"
#include "model/model_config.h"

namespace temper {

/// What of a model is trained, and how.
struct MethodOptions {
  enum class Kind {
    kFull,  ///< All weights.
    kLora,  ///< Low-rank additions to frozen weights.
  };
  Kind kind = Kind::kFull;
  LoraOptions lora;
  std::string start;  ///< The folder of an adapter to begin with; empty: from scratch.
};

/// The adapter of a method; nothing for full fine-tuning.
/// Throws: ConfigError for what the model does not have.
std::optional<Adapter> make_adapter(const MethodOptions& options, const ModelConfig& config);

}  // namespace temper
