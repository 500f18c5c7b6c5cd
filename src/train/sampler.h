// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace temper {

struct SamplingOptions {
  double temperature = 0.0;  ///< 0: greedy.
  double top_p = 1.0;        ///< The smallest set of tokens with at least so much probability.
  int64_t top_k = 0;         ///< Only the k most probable tokens; 0: all.
  double min_p = 0.0;        ///< Only tokens with this share of the greatest probability.
  double repetition_penalty = 1.0;  ///< Above 1 tokens that were seen become less probable.
  uint64_t seed = 0;
};

/// Makes the tokens of prompt and answer less probable: divides their logits by the penalty, or
/// multiplies those below zero with it; each token once, however often it was seen.
/// Source: Keskar et al., "CTRL", arXiv:1909.05858, as transformers does it.
void penalise(std::span<float> logits, std::span<const int64_t> prompt,
              std::span<const int64_t> answer, double penalty);

/// The most probable tokens, the first of equals first. Shapes: logits [vocab_size]; returns
/// [count], or all if there are fewer.
std::vector<int64_t> most_probable(std::span<const float> logits, int64_t count);

/// Chooses the next token from logits [vocab_size].
///
/// `draw` numbers the choice within the seed: the same (logits, options, draw) give the same token.
/// Greedy takes the first of equals. Source: Holtzman et al., arXiv:1904.09751, for top_p; Nguyen
/// et al., arXiv:2407.01082, for min_p.
int64_t sample_token(std::span<const float> logits, const SamplingOptions& options, uint64_t draw);

}  // namespace temper
