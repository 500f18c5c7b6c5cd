// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "comm/communicator.h"
#include "model/packed_batch.h"
#include "train/document_totals.h"

namespace temper {

/// What a step has learnt from one source of the mixture.
struct SourceLoss {
  std::optional<double> loss = {};  ///< Mean over its targets; nothing where it has none.
  int64_t num_targets = 0;
};

/// Adds up a step's losses by the sources that its documents are from: the same bits on any number
/// of ranks.
class SourceLosses {
 public:
  /// With fewer than two sources nothing is added up: the one has the step's own loss.
  explicit SourceLosses(int64_t num_sources)
      : num_sources_(num_sources < 2 ? 0 : num_sources), totals_(num_sources_) {}

  /// Shapes: losses [n] fp32 on the host, of the batch's targets in the order of their rows.
  void add(const PackedBatch& batch, const at::Tensor& losses);

  /// Those of all ranks, [source]; empty with fewer than two. Collective, but for those.
  std::vector<SourceLoss> combine(Communicator& ranks);

 private:
  int64_t num_sources_;
  DocumentTotals totals_;  // A source's targets as one document.
};

}  // namespace temper
