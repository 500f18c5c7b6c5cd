// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "train/engine.h"
#include "train/sampler.h"

namespace temper {

struct GenerationOptions {
  int64_t max_new_tokens = 128;
  SamplingOptions sampling;
};

/// Throws: ConfigError for an empty prompt, a token out of the vocabulary, or a context that grows
///   beyond the model's with the tokens that an adapter puts before it. Local.
void require_usable(const std::vector<int64_t>& prompt, const GenerationOptions& options,
                    const ModelConfig& model, int64_t num_virtual_tokens);

/// Continues `prompt` until an end-of-sequence token of the model, which is not returned, or
/// `max_new_tokens`.
///
/// Keys and values are cached: each new token costs one forward pass of one token.
/// Collective: every rank, with the same prompt and options, returns the same tokens. The prompt is
/// one that `require_usable` let pass.
/// Throws: ModelError if logits are not finite.
std::vector<int64_t> generate(Engine& engine, const std::vector<int64_t>& prompt,
                              const GenerationOptions& options, at::Device device);

}  // namespace temper
