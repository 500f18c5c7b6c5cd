// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "model/adapter/adapter.h"
#include "model/adapter/bottleneck.h"
#include "model/adapter/lora.h"
#include "model/adapter/virtual_tokens.h"
#include "model/model_config.h"

namespace temper {

/// What of a model is trained, and how.
struct MethodOptions {
  enum class Kind {
    kFull,        ///< All weights.
    kLora,        ///< Low-rank additions to frozen weights.
    kQlora,       ///< The same to weights that are kept in four bits.
    kPrefix,      ///< Keys and values before each document.
    kPrompt,      ///< Embeddings before each document.
    kBottleneck,  ///< Small networks behind the sublayers.
  };
  Kind kind = Kind::kFull;
  LoraOptions lora;
  PrefixOptions prefix;
  PromptOptions prompt;
  BottleneckOptions bottleneck;
  int64_t seed = 1;   ///< Of the initial values and of dropout.
  std::string start;  ///< The folder of an adapter to begin with; empty: from scratch.

  bool has_adapter() const { return kind != Kind::kFull; }
  bool is_lora() const { return kind == Kind::kLora || kind == Kind::kQlora; }

  /// Rows that a method puts before each document.
  int64_t num_virtual_tokens() const;
};

/// "full", "lora", "qlora", "prefix", "prompt", "bottleneck".
std::string name_of(MethodOptions::Kind kind);

/// The adapter of a method; nothing for full fine-tuning.
/// Throws: ConfigError for what the model does not have.
std::optional<Adapter> make_adapter(const MethodOptions& options, const ModelConfig& config);

/// Whether an adapter of one method can be gone on with by the other: the same tensors, used alike.
bool is_same_adapter(const MethodOptions& a, const MethodOptions& b, const ModelConfig& config);

}  // namespace temper
