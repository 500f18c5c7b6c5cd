// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "comm/communicator.h"
#include "model/packed_batch.h"

namespace temper {

/// What one rank tells of a step.
struct OwnStep {
  std::span<const PackedBatch> micro_batches;
  double busy_seconds = 0.0;              ///< Without waiting for other ranks.
  std::optional<double> cpu_joules = {};  ///< Of its node; nothing where it does not tell.
  bool is_first_of_node = false;          ///< It tells of the node.
};

/// What a step's global batch is made of, and what all ranks spent on it.
struct StepContent {
  int64_t num_tokens = 0;
  /// [k] has how many of its documents, or of their pieces, have 2^k tokens or more, but less than
  /// 2^(k + 1); up to the longest.
  std::vector<int64_t> document_lengths = {};
  double straggler_seconds = 0.0;         ///< By so much the slowest rank was above the mean.
  int64_t slowest_rank = 0;               ///< The last of equals.
  std::optional<double> cpu_joules = {};  ///< Of all nodes, where each tells.
};

/// Of all ranks. Collective. Throws: CommError.
StepContent content_of(const OwnStep& own, Communicator& ranks);

}  // namespace temper
