// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "comm/communicator.h"
#include "core/range.h"

namespace temper {

/// A loss over documents with what it would differ by on other documents of the same kind.
///
/// `standard_error` is that of a ratio of sums, s over n of documents d:
/// sqrt(D / (D - 1) sum_d (s_d - (S / N) n_d)^2) / N. Nothing for fewer than two documents.
/// Source: Cochran, "Sampling Techniques", 1977, equation 2.46, without the finite correction.
struct DocumentLoss {
  double loss = 0.0;  ///< S / N, in nats a target.
  std::optional<double> standard_error = {};
  std::optional<double> bits_per_byte = {};  ///< S / (B ln 2), B of the targets' text.
  std::optional<double> bits_per_byte_error = {};
  int64_t num_targets = 0;
  int64_t num_documents = 0;  ///< That have a target.
};

/// What the targets of each document of a hold-out sum up to, over micro-batches and ranks.
///
/// Losses are kept in units of 2^-32 nats, so that any order of adding gives the same bits.
class DocumentTotals {
 public:
  explicit DocumentTotals(int64_t num_documents)
      : words_(static_cast<size_t>(num_documents * kWords), 0) {}

  /// Adds a piece of a document. A loss that is not finite counts as none.
  void add(int64_t document, double loss_sum, int64_t num_targets, int64_t num_bytes);

  /// Replaces this rank's totals by those of all ranks. Collective.
  void combine(Communicator& ranks);

  /// Of the documents numbered so. Nothing where they have no target.
  std::optional<DocumentLoss> loss_of(Range documents) const;

 private:
  static constexpr int64_t kWords = 3;  // Loss, targets, bytes of each document.

  std::vector<int64_t> words_;  // [num_documents, kWords]
};

}  // namespace temper
