// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

namespace temper {

struct SamplingOptions {
  double temperature = 0.0;  ///< 0: greedy.
  double top_p = 1.0;        ///< The smallest set of tokens with at least so much probability.
  int64_t top_k = 0;         ///< Only the k most probable tokens; 0: all.
  uint64_t seed = 0;
};

/// Chooses the next token from logits [vocab_size].
///
/// `draw` numbers the choice within the seed: the same (logits, options, draw) give the same token.
/// Greedy takes the first of equals. Source: Holtzman et al., arXiv:1904.09751, for top_p.
int64_t sample_token(std::span<const float> logits, const SamplingOptions& options, uint64_t draw);

}  // namespace temper
