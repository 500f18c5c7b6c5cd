// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace temper {

/// How the gradients of several micro-batches and ranks become one sum.
enum class Reduction {
  kExact,  ///< Folded in the order of the global micro-batch: the same bits on any number of ranks.
  kFast,   ///< The library's reduce-scatter: equal to rounding, one exchange a step below stage 2.
};

struct ZeroOptions {
  int stage = 3;  ///< 0 replicates all; 1 shards the optimizer, 2 gradients too, 3 weights too.
  Reduction reduction = Reduction::kExact;
  bool prefetches = true;  ///< Stage 3: the next unit is gathered while this one computes.
};

}  // namespace temper
