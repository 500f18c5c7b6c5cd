// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "comm/communicator.h"
#include "train/engine.h"

namespace temper {

using Tokens = std::vector<int64_t>;

/// A text whose tokens are to be scored, each after all that comes before it.
struct Continuation {
  size_t context;  ///< Which one it follows.
  Tokens tokens;
};

struct ScoringWork {
  std::vector<Tokens> contexts;  ///< Each once. An empty one leaves a first token without a score.
  std::vector<Continuation> continuations;

  const Tokens& context_of(size_t continuation) const;

  /// How many tokens of a continuation have a score: all, but for the first after no context.
  int64_t num_scores(size_t continuation) const;
};

/// What a model says of one token after those before it.
struct TokenScore {
  float log_probability;  ///< Natural logarithm.
  int32_t is_greedy;      ///< Whether greedy decoding gives it: 0 or 1.
};

/// Continuations of one context, which is computed once for all of them.
struct ScoringGroup {
  size_t context;
  std::vector<size_t> continuations;
};

/// What one forward pass scores: documents that begin with a context and fork into continuations.
using ScoringBatch = std::vector<ScoringGroup>;

/// How many rows batches had better have: enough for efficient products, and few enough that each
/// rank gets a batch, if there is work for so many.
int64_t rows_of_batches(const ScoringWork& work, std::span<const size_t> wanted,
                        const Communicator& ranks);

/// Deals continuations into batches of about `num_rows` rows, in the order in which their contexts
/// come up in `wanted`. A longer one has a batch of its own; a context whose continuations do not
/// fit into one batch is computed once for each of them.
std::vector<ScoringBatch> plan_scoring(const ScoringWork& work, std::span<const size_t> wanted,
                                       int64_t num_rows);

/// What becomes of the scores of one continuation's tokens.
using TakeScores = std::function<void(size_t continuation, std::span<const TokenScore> scores)>;

/// Scores batches in rounds, one a rank. After each round `take` gets the tokens' scores of each
/// continuation of it, on rank 0 alone, as a function of the continuation and what comes before it:
/// on a CPU, the same bits in any batch and on any number of ranks.
///
/// Collective: all ranks, with the same work and plan. Throws: what `take` throws, on all ranks.
void score(Engine& engine, const ScoringWork& work, const std::vector<ScoringBatch>& plan,
           Communicator& ranks, const TakeScores& take);

}  // namespace temper
