// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "comm/communicator.h"
#include "train/engine.h"
#include "train/sampler.h"

namespace temper {

struct GenerationOptions {
  int64_t max_new_tokens = 128;
  SamplingOptions sampling = {};
  int64_t at_once = 16;                   ///< How many answers a rank is at, at most.
  std::vector<int64_t> stop_tokens = {};  ///< They end an answer, as the model's own do.
};

struct Answer {
  enum class End { kStopToken, kLength };

  std::vector<int64_t> tokens;  ///< Without the token that ends it.
  End end = End::kLength;
};

/// Throws: ConfigError for an empty prompt, a token out of the vocabulary, or a context that grows
///   beyond the model's with the tokens that an adapter puts before it. Local.
void require_usable(const std::vector<int64_t>& prompt, const GenerationOptions& options,
                    const ModelConfig& model, int64_t num_virtual_tokens);

/// A prompt to be continued; `number` is what its random numbers are drawn for.
struct GenerationRequest {
  std::vector<int64_t> prompt;
  uint64_t number = 0;
};

/// Continues prompts until an end-of-sequence token of the model or `max_new_tokens`.
///
/// Each rank is at `at_once` answers, which take each step together; where one ends, the next
/// request begins. Keys and values are cached: a new token costs one forward pass of one token.
/// `take` gets each answer when it ends, on all ranks. An answer depends on its request and the
/// options alone: on a CPU not on the others, nor on the number of ranks.
///
/// Collective: every rank, with the same requests and options. The prompts are such as
/// `require_usable` lets pass. Throws: ModelError, on all ranks, if logits are not finite.
void generate(Engine& engine, Communicator& ranks, std::span<const GenerationRequest> requests,
              const GenerationOptions& options,
              const std::function<void(size_t request, const Answer& answer)>& take);

}  // namespace temper
