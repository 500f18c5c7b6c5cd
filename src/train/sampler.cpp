// SPDX-License-Identifier: Apache-2.0
#include "train/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <unordered_set>

#include "core/random.h"

namespace temper {
namespace {

// Token ids, most probable first; equals in order of their ids. They are sorted only as far as they
// are asked for, since few of many are looked at.
class RankedTokens {
 public:
  explicit RankedTokens(std::span<const float> logits) : logits_(logits), tokens_(logits.size()) {
    std::iota(tokens_.begin(), tokens_.end(), 0);
  }

  int64_t operator[](size_t rank) {
    while (rank >= num_sorted_) sort_more();
    return tokens_[rank];
  }

 private:
  void sort_more() {
    constexpr size_t kFewest = 64;
    const size_t next = std::min(tokens_.size(), std::max(kFewest, 4 * num_sorted_));
    const auto place = [&](size_t rank) {
      return tokens_.begin() + static_cast<std::ptrdiff_t>(rank);
    };
    std::partial_sort(place(num_sorted_), place(next), tokens_.end(), [&](int64_t a, int64_t b) {
      const float x = logits_[static_cast<size_t>(a)], y = logits_[static_cast<size_t>(b)];
      return x > y || (x == y && a < b);
    });
    num_sorted_ = next;
  }

  std::span<const float> logits_;
  std::vector<int64_t> tokens_;
  size_t num_sorted_ = 0;
};

}  // namespace

void penalise(std::span<float> logits, std::span<const int64_t> prompt,
              std::span<const int64_t> answer, double penalty) {
  if (penalty == 1.0) return;
  const auto factor = static_cast<float>(penalty);
  std::unordered_set<int64_t> seen(prompt.begin(), prompt.end());
  seen.insert(answer.begin(), answer.end());
  for (const int64_t token : seen) {
    float& logit = logits[static_cast<size_t>(token)];
    logit = logit < 0.0F ? logit * factor : logit / factor;
  }
}

std::vector<int64_t> most_probable(std::span<const float> logits, int64_t count) {
  RankedTokens tokens(logits);
  std::vector<int64_t> found;
  const size_t wanted = std::min(logits.size(), static_cast<size_t>(count));
  while (found.size() < wanted) found.push_back(tokens[found.size()]);
  return found;
}

int64_t sample_token(std::span<const float> logits, const SamplingOptions& options, uint64_t draw) {
  if (options.temperature <= 0.0) {
    return std::distance(logits.begin(), std::max_element(logits.begin(), logits.end()));
  }
  const size_t most = options.top_k > 0
                          ? std::min(logits.size(), static_cast<size_t>(options.top_k))
                          : logits.size();
  RankedTokens tokens(logits);
  const double highest = logits[static_cast<size_t>(tokens[0])];
  // In fp64; not divided by their sum.
  const auto weigh = [&](float logit) { return std::exp((logit - highest) / options.temperature); };
  const auto weight = [&](size_t rank) { return weigh(logits[static_cast<size_t>(tokens[rank])]); };
  double total = 0.0;
  if (most == logits.size()) {
    for (const float logit : logits) total += weigh(logit);
  } else {
    for (size_t rank = 0; rank < most; ++rank) total += weight(rank);
  }
  size_t count = most;
  double kept = total;
  if (options.top_p < 1.0 || options.min_p > 0.0) {
    kept = weight(0);
    count = 1;
    while (count < most && kept < options.top_p * total && weight(count) >= options.min_p) {
      kept += weight(count++);
    }
  }
  double left = random_uniform(options.seed, draw) * kept;
  for (size_t rank = 0; rank + 1 < count; ++rank) {
    left -= weight(rank);
    if (left < 0.0) return tokens[rank];
  }
  return tokens[count - 1];
}

}  // namespace temper
