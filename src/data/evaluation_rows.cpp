// SPDX-License-Identifier: Apache-2.0
#include "data/evaluation_rows.h"

#include <algorithm>
#include <utility>

namespace temper {

EvaluationRows::EvaluationRows(std::filesystem::path path, int64_t sequence_length,
                               int64_t micro_batch_rows)
    : source_(std::move(path), sequence_length), micro_batch_rows_(micro_batch_rows) {}

int64_t EvaluationRows::num_micro_batches() const {
  return (source_.num_rows() + micro_batch_rows_ - 1) / micro_batch_rows_;
}

MicroBatch EvaluationRows::micro_batch(int64_t index) const {
  MicroBatch batch;
  const int64_t end = std::min(source_.num_rows(), (index + 1) * micro_batch_rows_);
  for (int64_t row = index * micro_batch_rows_; row < end; ++row) source_.append_row(row, batch);
  return batch;
}

}  // namespace temper
