// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "app/generate_requests.h"
#include "config/run_config.h"
#include "model/adapter/method.h"
#include "model/model_config.h"
#include "train/engine.h"

namespace temper {

/// Reads the prompts that a run answers while it trains, lines as those of `temper generate`; none
/// if the configuration names no file. Greedy, of at most `train.sample_tokens` tokens where they
/// say nothing. Local. Throws: DataError.
std::optional<PromptRequests> read_sample_prompts(const RunConfig& config,
                                                  const ModelConfig& model);

/// Answers them with the weights as they are: the same tokens on any number of ranks. Nothing if
/// `is_stopped` cut it off, which is asked before each token, on all ranks, and may communicate.
/// Returns lines {"id", "prompt": [ids], "answers": [{"ids", "end"}]}, in the order of the file.
/// Collective. Throws: as `generate`.
std::optional<std::vector<Json>> answer_samples(const PromptRequests& asked, Engine& engine,
                                                Communicator& ranks,
                                                const std::function<bool()>& is_stopped);

}  // namespace temper
