// SPDX-License-Identifier: Apache-2.0
#include "train/document_totals.h"

#include <cmath>
#include <numbers>
#include <numeric>
#include <span>

#include "comm/agree.h"

namespace temper {
namespace {

constexpr double kUnitsPerNat = 4294967296.0;  // 2^32; a document may have 2^31 nats.

struct Ratio {
  double value = 0.0;
  std::optional<double> error = {};
};

// Of the sums of s and of n over documents. Shapes: s, n [document].
Ratio ratio_of(const std::vector<double>& s, const std::vector<double>& n) {
  const double sum_n = std::accumulate(n.begin(), n.end(), 0.0);
  Ratio ratio{std::accumulate(s.begin(), s.end(), 0.0) / sum_n};
  if (s.size() < 2) return ratio;
  double squares = 0.0;
  for (size_t d = 0; d < s.size(); ++d) {
    const double residual = s[d] - ratio.value * n[d];
    squares += residual * residual;
  }
  const auto count = static_cast<double>(s.size());
  ratio.error = std::sqrt(count / (count - 1.0) * squares) / sum_n;
  return ratio;
}

}  // namespace

void DocumentTotals::add(int64_t document, double loss_sum, int64_t num_targets,
                         int64_t num_bytes) {
  const std::span<int64_t> own =
      std::span(words_).subspan(static_cast<size_t>(document * kWords), kWords);
  if (std::isfinite(loss_sum)) own[0] += std::llround(loss_sum * kUnitsPerNat);
  own[1] += num_targets;
  own[2] += num_bytes;
}

void DocumentTotals::combine(Communicator& ranks) {
  if (!words_.empty()) reduce_words(ranks, words_, ReduceOp::kSum);
}

std::optional<DocumentLoss> DocumentTotals::loss_of(Range documents) const {
  std::vector<double> nats, bits, targets, bytes;  // [document with a target]
  DocumentLoss result;
  int64_t num_bytes = 0;
  for (int64_t d = documents.begin; d < documents.end; ++d) {
    const int64_t* own = &words_[static_cast<size_t>(d * kWords)];
    if (own[1] == 0) continue;
    nats.push_back(static_cast<double>(own[0]) / kUnitsPerNat);
    bits.push_back(nats.back() / std::numbers::ln2);
    targets.push_back(static_cast<double>(own[1]));
    bytes.push_back(static_cast<double>(own[2]));
    result.num_targets += own[1];
    num_bytes += own[2];
  }
  if (nats.empty()) return std::nullopt;
  result.num_documents = std::ssize(nats);
  const Ratio loss = ratio_of(nats, targets);
  result.loss = loss.value;
  result.standard_error = loss.error;
  if (num_bytes == 0) return result;
  const Ratio per_byte = ratio_of(bits, bytes);
  result.bits_per_byte = per_byte.value;
  result.bits_per_byte_error = per_byte.error;
  return result;
}

}  // namespace temper
