// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "data/micro_batch.h"
#include "data/row_source.h"

namespace temper {

/// All rows of one corpus, once and in order, as micro-batches; the last one may be smaller.
class EvaluationRows {
 public:
  EvaluationRows(std::unique_ptr<const RowSource> source, int64_t micro_batch_rows)
      : source_(std::move(source)), micro_batch_rows_(micro_batch_rows) {}

  const Corpus& corpus() const { return source_->corpus(); }
  int64_t num_micro_batches() const;
  MicroBatch micro_batch(int64_t index) const;

 private:
  std::unique_ptr<const RowSource> source_;
  int64_t micro_batch_rows_;
};

}  // namespace temper
