// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "config/run_config.h"
#include "data/mixture.h"
#include "data/shard_checks.h"
#include "model/adapter/method.h"
#include "model/model_config.h"

namespace temper {

/// The chat template that a run's exports get in place of the model's own: the one that all
/// conversations of `sources` were rendered by, if the configuration or the model's lack of any
/// asks for it. Empty: the model's own stays. `model` says then by which one hold-outs must have
/// been rendered. Sources that are nullptr could not be opened, and are passed over.
///
/// Throws: DataError if the shards have several, or one that cannot be exported; ConfigError if
///   none has any and the configuration asks for it.
std::string adopt_template(const RunConfig& config, const Mixture::Sources& sources,
                           ModelFacts& model);

/// What a person is told about the template that is adopted; one line.
std::string describe_adoption(const ModelFacts& model, const std::string& chat_template);

/// The tokens that turns in the data end with and that end no text of the model, each once. A
/// model that is trained on such turns goes on behind them when it generates, for ever.
std::vector<int64_t> foreign_turn_ends(const Mixture& mixture, const ModelConfig& model);

/// What a person is told about them, and what to do; one line.
std::string describe_turn_ends(const std::vector<int64_t>& tokens, const ModelConfig& model,
                               const std::string& remedy);

/// What to do about them in a run: one of an adapter has the end tokens of its base.
std::string remedy_of_turn_ends(const MethodOptions& method);

}  // namespace temper
