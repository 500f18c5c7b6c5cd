// SPDX-License-Identifier: Apache-2.0
#include "train/batch.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/targets.h"
#include "model/on_device.h"

namespace temper {

PackedBatch to_packed_batch(const MicroBatch& micro_batch, at::Device device) {
  PackedBatch batch{on_device(micro_batch.tokens, device), on_device(micro_batch.positions, device),
                    on_device(micro_batch.targets, device), micro_batch.document_begins};
  BatchFacts& facts = batch.facts.emplace();
  facts.sources = micro_batch.sources;
  for (const int64_t position : micro_batch.positions) {
    facts.largest_position = std::max(facts.largest_position, position);
  }
  for (size_t row = 0; row < micro_batch.targets.size(); ++row) {
    if (micro_batch.targets[row] == kNoTarget) continue;
    facts.target_rows.push_back(static_cast<int64_t>(row));
  }
  return batch;
}

int64_t count_targets(const PackedBatch& batch) {
  if (batch.facts) return std::ssize(batch.facts->target_rows);
  return batch.targets.ne(kNoTarget).sum().item<int64_t>();
}

}  // namespace temper
