// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>

#include "data/micro_batch.h"
#include "data/row_source.h"

namespace temper {

/// All rows of one shard, once and in order, as micro-batches; the last one may be smaller.
class EvaluationRows {
 public:
  EvaluationRows(std::filesystem::path path, int64_t sequence_length, int64_t micro_batch_rows);

  const TokenShard& shard() const { return source_.shard(); }
  int64_t num_micro_batches() const;
  MicroBatch micro_batch(int64_t index) const;

 private:
  RowSource source_;
  int64_t micro_batch_rows_;
};

}  // namespace temper
