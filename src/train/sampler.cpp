// SPDX-License-Identifier: Apache-2.0
#include "train/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "core/random.h"

namespace temper {
namespace {

// Token ids, most probable first; equals in order of their ids.
std::vector<int64_t> ranked_tokens(std::span<const float> logits) {
  std::vector<int64_t> tokens(logits.size());
  std::iota(tokens.begin(), tokens.end(), 0);
  std::stable_sort(tokens.begin(), tokens.end(), [&](int64_t a, int64_t b) {
    return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
  });
  return tokens;
}

// Softmax over the given tokens, in fp64.
std::vector<double> probabilities(std::span<const float> logits, std::span<const int64_t> tokens,
                                  double temperature) {
  const double highest = logits[static_cast<size_t>(tokens.front())];
  std::vector<double> weights;
  weights.reserve(tokens.size());
  for (const int64_t token : tokens) {
    weights.push_back(std::exp((logits[static_cast<size_t>(token)] - highest) / temperature));
  }
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  for (double& weight : weights) weight /= total;
  return weights;
}

}  // namespace

int64_t sample_token(std::span<const float> logits, const SamplingOptions& options, uint64_t draw) {
  if (options.temperature <= 0.0) {
    return std::distance(logits.begin(), std::max_element(logits.begin(), logits.end()));
  }
  std::vector<int64_t> tokens = ranked_tokens(logits);
  if (options.top_k > 0) {
    tokens.resize(std::min(tokens.size(), static_cast<size_t>(options.top_k)));
  }
  std::vector<double> weights = probabilities(logits, tokens, options.temperature);
  double kept = 0.0;
  size_t count = 0;
  while (count < weights.size() && (count == 0 || kept < options.top_p)) kept += weights[count++];

  double left = random_uniform(options.seed, draw) * kept;
  for (size_t k = 0; k + 1 < count; ++k) {
    left -= weights[k];
    if (left < 0.0) return tokens[k];
  }
  return tokens[count - 1];
}

}  // namespace temper
