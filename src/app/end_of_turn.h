// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/mixture.h"
#include "model/adapter/method.h"
#include "model/model_config.h"

namespace temper {

/// The tokens that turns in the data end with and that end no text of the model, each once. A
/// model that is trained on such turns goes on behind them when it generates, for ever.
std::vector<int64_t> foreign_turn_ends(const Mixture& mixture, const ModelConfig& model);

/// What a person is told about them, and what to do; one line.
std::string describe_turn_ends(const std::vector<int64_t>& tokens, const ModelConfig& model,
                               const MethodOptions& method);

}  // namespace temper
