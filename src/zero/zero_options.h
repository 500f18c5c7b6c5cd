// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace temper {

/// How the gradients of several micro-batches and ranks become one sum.
enum class Reduction {
  kExact,  ///< Folded in the order of the global micro-batch: the same bits on any number of ranks.
  /// At stages 0 and 1: each rank adds up its own micro-batches in fp32, and the sums are exchanged
  /// once a step, rounded to the compute dtype. As many bytes as one micro-batch a rank costs in
  /// the exact reduction; the result depends on the number of ranks. At stages 2 and 3 no rank has
  /// room for whole sums.
  kFast,
};

struct ZeroOptions {
  int stage = 3;  ///< 0 replicates all; 1 shards the optimizer, 2 gradients too, 3 weights too.
  Reduction reduction = Reduction::kExact;
  bool prefetches = true;  ///< Stage 3: the next unit is gathered while this one computes.
};

}  // namespace temper
