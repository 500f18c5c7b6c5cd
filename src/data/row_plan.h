// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/once_for_all.h"
#include "data/corpus.h"

namespace temper {

/// Which whole documents of a corpus of kind sft make up which row.
class RowPlan {
 public:
  RowPlan() = default;

  /// Packs the documents by best fit; longer ones than `sequence_length` lose their end, and those
  /// that lose all targets by that are left out. One rank alone reads where documents begin.
  /// Collective if `once` is. Throws: DataError if no target is left.
  RowPlan(const Corpus& corpus, int64_t sequence_length, const OnceForAll& once);

  int64_t num_rows() const { return std::ssize(row_begins_) - 1; }

  /// The documents of a row. Throws: std::out_of_range if there is no such row.
  std::span<const int64_t> documents(int64_t row) const;

  /// All rows' tokens.
  int64_t num_tokens() const { return num_tokens_; }
  int64_t num_truncated() const { return num_truncated_; }
  int64_t num_without_target() const { return num_without_target_; }

 private:
  void pack(const Corpus& corpus, int64_t sequence_length);
  void measure(const Corpus::Part& part, int64_t sequence_length, std::vector<int64_t>& kept,
               std::vector<int64_t>& lengths);
  std::vector<int64_t> to_numbers() const;
  void take_numbers(std::span<const int64_t> numbers);

  int64_t num_tokens_ = 0;
  int64_t num_truncated_ = 0;
  int64_t num_without_target_ = 0;
  std::vector<int64_t> row_begins_ = {0};  // [num_rows + 1], places in documents_.
  std::vector<int64_t> documents_;         // Row after row.
};

/// Packs documents into rows of at most `capacity` tokens: the longest first, each into the row
/// with the least room that still fits it. Ties go to the lower document, and to the row that has
/// had this room for longest.
///
/// Returns the documents of each row. O(n log n).
/// Shapes: lengths [num_documents], each in [1, capacity].
/// Throws: std::invalid_argument for a length out of range.
/// Source: best fit decreasing, as trl.data_utils.pack_dataset(strategy="bfd").
std::vector<std::vector<int64_t>> pack_best_fit(std::span<const int64_t> lengths, int64_t capacity);

}  // namespace temper
