// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "data/micro_batch.h"
#include "io/token_shard.h"

namespace temper {

/// One shard cut into rows of at most `sequence_length` tokens.
///
/// pretrain: row k holds tokens [k S, (k + 1) S), and the token after it as the target of its last
/// position. Documents within a row do not see each other; one that goes on from the row before
/// starts again. sft: whole documents packed by best fit; longer ones lose their end, and those
/// without a target are left out. A position's target is the next token of its document, where that
/// carries loss.
/// Reads may come from many threads. Throws: DataError.
class RowSource {
 public:
  RowSource(std::filesystem::path path, int64_t sequence_length);

  const TokenShard& shard() const { return shard_; }
  int64_t num_rows() const;

  /// All rows' tokens: less than the shard's where documents were cut or left out.
  int64_t num_tokens() const { return num_tokens_; }
  int64_t num_truncated() const { return num_truncated_; }
  int64_t num_without_target() const { return num_without_target_; }

  /// Appends a row's documents to the micro-batch.
  void append_row(int64_t row, MicroBatch& batch) const;

 private:
  void pack();
  Range kept_part(Range document) const;
  bool has_target(Range tokens) const;
  void append_conversation(int64_t document, MicroBatch& batch) const;
  void append_slice(Range tokens, MicroBatch& batch) const;

  TokenShard shard_;
  int64_t sequence_length_;
  int64_t num_tokens_;
  int64_t num_truncated_ = 0;
  int64_t num_without_target_ = 0;
  std::vector<std::vector<int64_t>> packed_;  // [row][document]; empty for pretrain.
};

}  // namespace temper
