// SPDX-License-Identifier: Apache-2.0
#include "train/source_losses.h"

namespace temper {

void SourceLosses::add(const PackedBatch& batch, const at::Tensor& losses) {
  if (num_sources_ == 0 || !batch.facts || batch.facts->target_rows.empty()) return;
  const BatchFacts& facts = *batch.facts;
  const float* next = losses.const_data_ptr<float>();
  auto row = facts.target_rows.begin();
  for (size_t document = 0; document < facts.sources.size(); ++document) {
    double sum = 0.0;
    int64_t num_targets = 0;
    for (; row != facts.target_rows.end() && *row < batch.document_begins[document + 1]; ++row) {
      sum += static_cast<double>(*next++);
      ++num_targets;
    }
    totals_.add(facts.sources[document], sum, num_targets, /*num_bytes=*/0);
  }
}

std::vector<SourceLoss> SourceLosses::combine(Communicator& ranks) {
  totals_.combine(ranks);
  std::vector<SourceLoss> losses(static_cast<size_t>(num_sources_));
  for (int64_t source = 0; source < num_sources_; ++source) {
    const auto found = totals_.loss_of({source, source + 1});
    if (found) losses[static_cast<size_t>(source)] = {found->loss, found->num_targets};
  }
  return losses;
}

}  // namespace temper
