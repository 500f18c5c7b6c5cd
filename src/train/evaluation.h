// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "data/corpus.h"
#include "data/micro_batch.h"
#include "train/document_totals.h"
#include "train/engine.h"

namespace temper {

/// A hold-out set as a list of micro-batches that covers each of its tokens once.
struct HoldOut {
  std::string name;
  int64_t num_micro_batches = 0;
  std::function<MicroBatch(int64_t)> micro_batch;  ///< By index.
  bool is_general = false;    ///< Text that is not to be learnt, but not to be forgotten either.
  int64_t num_documents = 0;  ///< Of its corpus; 0: it does not tell which its pieces are of.

  /// Bytes of text of each token, [vocab_size]; null or empty: they are not known.
  std::shared_ptr<const std::vector<int64_t>> token_bytes = {};

  std::vector<NamedDocuments> sources = {};  ///< The files that it comes from, where told apart.
};

struct EvaluationResult {
  double loss = 0.0;  ///< Mean cross-entropy over the targets; its exponential is the perplexity.
  int64_t num_targets = 0;
  std::optional<DocumentLoss> documents = {};  ///< What they tell of it.

  struct Source {
    std::string name;
    DocumentLoss documents;
  };
  std::vector<Source> sources = {};  ///< Those that have a target.
};

/// A loss in words: "loss=3.1 perplexity=22.2 num_targets=50", and, where documents are known, how
/// many there are, the standard error of the loss, and bits per byte with theirs.
/// `precision` is how many digits a loss has.
std::string describe(const EvaluationResult& result, int precision);
std::string describe(const DocumentLoss& documents, int precision);

/// The loss on a whole hold-out set: the same bits on any number of ranks.
///
/// Nothing if it was cut off: `is_stopped`, if there is one, is asked before each round of
/// micro-batches, one a rank. It may communicate, and must say the same on all ranks.
/// Collective. Throws: DataError if the set has no target.
std::optional<EvaluationResult> evaluate(Engine& engine, const HoldOut& holdout,
                                         Communicator& ranks, at::Device device,
                                         const std::function<bool()>& is_stopped = {});

}  // namespace temper
