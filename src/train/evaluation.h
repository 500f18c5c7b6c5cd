// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "comm/communicator.h"
#include "data/micro_batch.h"
#include "train/engine.h"

namespace temper {

/// A hold-out set as a list of micro-batches that covers each of its tokens once.
struct HoldOut {
  std::string name;
  int64_t num_micro_batches = 0;
  std::function<MicroBatch(int64_t)> micro_batch;  ///< By index.
  bool is_general = false;  ///< Text that is not to be learnt, but not to be forgotten either.
};

struct EvaluationResult {
  double loss = 0.0;  ///< Mean cross-entropy over the targets; its exponential is the perplexity.
  int64_t num_targets = 0;
};

/// The loss on a whole hold-out set: the same bits on any number of ranks.
///
/// Nothing if it was cut off: `is_stopped`, if there is one, is asked before each round of
/// micro-batches, one a rank. It may communicate, and must say the same on all ranks.
/// Collective. Throws: DataError if the set has no target.
std::optional<EvaluationResult> evaluate(Engine& engine, const HoldOut& holdout,
                                         Communicator& ranks, at::Device device,
                                         const std::function<bool()>& is_stopped = {});

}  // namespace temper
