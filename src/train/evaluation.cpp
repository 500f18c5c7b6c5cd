// SPDX-License-Identifier: Apache-2.0
#include "train/evaluation.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <sstream>

#include "core/concat.h"
#include "core/error.h"
#include "core/progress_bar.h"
#include "core/targets.h"
#include "train/batch.h"
#include "train/loss_total.h"

namespace temper {
namespace {

// What the micro-batches of a hold-out sum up to.
class HoldOutTotals {
 public:
  explicit HoldOutTotals(const HoldOut& holdout)
      : holdout_(holdout), documents_(holdout.num_documents) {}

  /// Shapes: log_probabilities [num_targets] fp32, in the order of the micro-batch's rows.
  void add(const MicroBatch& batch, const at::Tensor& log_probabilities) {
    const float* next = log_probabilities.const_data_ptr<float>();
    for (size_t piece = 0; piece + 1 < batch.document_begins.size(); ++piece) {
      double loss_sum = 0.0;
      int64_t num_targets = 0, num_bytes = 0;
      for (int64_t i = batch.document_begins[piece]; i < batch.document_begins[piece + 1]; ++i) {
        const int64_t target = batch.targets[static_cast<size_t>(i)];
        if (target == kNoTarget) continue;
        loss_sum -= static_cast<double>(*next++);
        ++num_targets;
        num_bytes += bytes_of(target);
      }
      total_.add(loss_sum, num_targets);
      if (holdout_.num_documents == 0) continue;
      documents_.add(batch.documents[piece], loss_sum, num_targets, num_bytes);
    }
  }

  EvaluationResult combine(Communicator& ranks) {
    total_.combine(ranks);
    documents_.combine(ranks);
    if (total_.num_targets() == 0) {
      throw DataError(concat("hold-out ", holdout_.name, " has no target"),
                      "give it documents of at least two tokens");
    }
    EvaluationResult result{total_.mean(), total_.num_targets()};
    if (!std::isfinite(result.loss)) return result;  // Documents' losses would lack what is not.
    result.documents = documents_.loss_of({0, holdout_.num_documents});
    for (const NamedDocuments& source : holdout_.sources) {
      const auto loss = documents_.loss_of(source.documents);
      if (loss) result.sources.push_back({source.name, *loss});
    }
    return result;
  }

 private:
  int64_t bytes_of(int64_t token) const {
    const auto& bytes = holdout_.token_bytes;
    return bytes && !bytes->empty() ? (*bytes)[static_cast<size_t>(token)] : 0;
  }

  const HoldOut& holdout_;
  LossTotal total_;
  DocumentTotals documents_;
};

void write_documents(const DocumentLoss& documents, std::ostream& text) {
  text << " documents=" << documents.num_documents;
  if (documents.standard_error) text << " standard_error=" << *documents.standard_error;
  if (!documents.bits_per_byte) return;
  text << " bits_per_byte=" << *documents.bits_per_byte;
  if (documents.bits_per_byte_error) text << " bits_error=" << *documents.bits_per_byte_error;
}

void write_loss(double loss, int64_t num_targets, int precision, std::ostream& text) {
  text.precision(precision);
  text << "loss=" << loss;
  text.precision(6);
  text << " perplexity=" << std::exp(loss) << " num_targets=" << num_targets;
}

}  // namespace

std::string describe(const EvaluationResult& result, int precision) {
  std::ostringstream text;
  write_loss(result.loss, result.num_targets, precision, text);
  if (result.documents) write_documents(*result.documents, text);
  return text.str();
}

std::string describe(const DocumentLoss& documents, int precision) {
  std::ostringstream text;
  write_loss(documents.loss, documents.num_targets, precision, text);
  write_documents(documents, text);
  return text.str();
}

std::optional<EvaluationResult> evaluate(Engine& engine, const HoldOut& holdout,
                                         Communicator& ranks, at::Device device,
                                         const std::function<bool()>& is_stopped) {
  HoldOutTotals totals(holdout);
  ProgressBar bar("evaluating " + holdout.name, holdout.num_micro_batches,
                  ProgressBar::Unit::kCount);
  for (int64_t first = 0; first < holdout.num_micro_batches; first += ranks.world_size()) {
    if (is_stopped && is_stopped()) return std::nullopt;
    const int64_t index = first + ranks.rank();
    if (index < holdout.num_micro_batches) {
      const MicroBatch micro_batch = holdout.micro_batch(index);
      const TargetScores scores = engine.scores(to_packed_batch(micro_batch, device));
      totals.add(micro_batch, scores.log_probabilities);
    } else {
      engine.join_loss();  // The last round may leave ranks without a batch.
    }
    bar.add(std::min<int64_t>(ranks.world_size(), holdout.num_micro_batches - first));
  }
  return totals.combine(ranks);
}

}  // namespace temper
