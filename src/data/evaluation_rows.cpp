// SPDX-License-Identifier: Apache-2.0
#include "data/evaluation_rows.h"

#include <algorithm>

namespace temper {

int64_t EvaluationRows::num_micro_batches() const {
  return (source_->num_rows() + micro_batch_rows_ - 1) / micro_batch_rows_;
}

MicroBatch EvaluationRows::micro_batch(int64_t index) const {
  MicroBatch batch;
  const int64_t end = std::min(source_->num_rows(), (index + 1) * micro_batch_rows_);
  for (int64_t row = index * micro_batch_rows_; row < end; ++row) source_->append_row(row, batch);
  return batch;
}

}  // namespace temper
