// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "config/run_config.h"
#include "model/model_config.h"
#include "zero/unit_form.h"

namespace temper {

/// What one rank of a run will hold at its fullest. Units: bytes.
struct MemoryEstimate {
  int64_t state = 0;        ///< Weights, master weights, moments: as UnitStore keeps.
  int64_t gradients = 0;    ///< As they are added up, those that there are when memory is fullest.
  int64_t exchange = 0;     ///< Gathered units and gradients on their way.
  int64_t activations = 0;  ///< Of one micro-batch, with the logits of one chunk.
  int64_t saving = 0;       ///< The copy that a checkpoint is written from.
  int64_t program = 0;      ///< LibTorch and MPI themselves, and what the allocator has free.

  int64_t offloaded = 0;  ///< On disk, and not part of the total.

  int64_t total() const { return state + gradients + exchange + activations + saving + program; }
};

/// What the estimate depends on beside the configuration.
struct MemoryFacts {
  const ModelConfig& model;
  std::vector<StoredUnit> units;  ///< The decoder's, then an adapter's.
  std::vector<int> users = {};    ///< Of the decoder's units, as DecoderUnits has them; none where
                                  ///< each computes with one.
  int num_ranks = 1;
  int num_threads = 1;  ///< Of each.
};

/// `state` is exact, for the rank that keeps most; the rest is a close guess from above.
MemoryEstimate estimate_memory(const RunConfig& config, const MemoryFacts& facts);

}  // namespace temper
