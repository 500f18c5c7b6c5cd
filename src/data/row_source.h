// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "data/corpus.h"
#include "data/micro_batch.h"
#include "data/row_plan.h"
#include "data/shard_checks.h"

namespace temper {

/// One corpus cut into rows of at most `sequence_length` tokens.
///
/// pretrain: row k holds tokens [k S, (k + 1) S), and the token after it as the target of its last
/// position. Documents within a row do not see each other; one that goes on from the row before
/// starts again. sft: whole documents packed by best fit; longer ones lose their end, and those
/// without a target are left out. A position's target is the next token of its document, where that
/// carries loss.
/// Reads may come from many threads. Throws: DataError.
class RowSource {
 public:
  /// Refuses a corpus that does not fit the model. One rank alone reads what tells how rows are
  /// cut. Collective if `once` is.
  RowSource(const ShardSet& files, int64_t sequence_length, const ModelFacts& model,
            const OnceForAll& once = find_alone);

  const Corpus& corpus() const { return corpus_; }
  int64_t num_rows() const;

  /// All rows' tokens: less than the corpus' where documents were cut or left out.
  int64_t num_tokens() const { return is_packed() ? plan_.num_tokens() : corpus_.num_tokens(); }
  int64_t num_truncated() const { return plan_.num_truncated(); }
  int64_t num_without_target() const { return plan_.num_without_target(); }

  /// Appends a row's documents to the micro-batch.
  void append_row(int64_t row, MicroBatch& batch) const;

 private:
  bool is_packed() const { return corpus_.kind() == ShardKind::kSft; }
  void append_conversation(int64_t document, MicroBatch& batch) const;
  void append_slice(Range tokens, MicroBatch& batch) const;

  Corpus corpus_;
  int64_t sequence_length_;
  RowPlan plan_;  // Of sft.
};

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
