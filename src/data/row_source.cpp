// SPDX-License-Identifier: Apache-2.0
#include "data/row_source.h"

#include <algorithm>
#include <span>
#include <stdexcept>

#include "core/targets.h"

namespace temper {
namespace {

// Appends `length` tokens of one document. `ids` may have one more, which is then the last target.
void append_document(std::span<const int64_t> ids, size_t length,
                     std::span<const uint8_t> carries_loss, MicroBatch& batch) {
  for (size_t position = 0; position < length; ++position) {
    const size_t next = position + 1;
    const bool has_target = next < ids.size() && carries_loss[next] == 1;
    batch.tokens.push_back(ids[position]);
    batch.positions.push_back(static_cast<int64_t>(position));
    batch.targets.push_back(has_target ? ids[next] : kNoTarget);
    batch.num_targets += has_target ? 1 : 0;
  }
  batch.document_begins.push_back(static_cast<int64_t>(batch.tokens.size()));
}

}  // namespace

RowSource::RowSource(const ShardSet& files, int64_t sequence_length, const ModelFacts& model,
                     const OnceForAll& once)
    : corpus_(files, once), sequence_length_(sequence_length) {
  if (sequence_length < 1) throw std::invalid_argument("a row needs at least one token");
  require_fits(corpus_.first(), model);
  if (is_packed()) plan_ = RowPlan(corpus_, sequence_length, once);
}

int64_t RowSource::num_rows() const {
  if (is_packed()) return plan_.num_rows();
  return (corpus_.num_tokens() + sequence_length_ - 1) / sequence_length_;
}

void RowSource::append_row(int64_t row, MicroBatch& batch) const {
  if (batch.document_begins.empty()) batch.document_begins.push_back(0);
  if (is_packed()) {
    for (const int64_t document : plan_.documents(row)) append_conversation(document, batch);
  } else {
    append_slice(
        {row * sequence_length_, std::min(corpus_.num_tokens(), (row + 1) * sequence_length_)},
        batch);
  }
}

void RowSource::append_conversation(int64_t document, MicroBatch& batch) const {
  const Corpus::Part& part = corpus_.part_with_document(document);
  Range tokens = part.shard->documents().document(document - part.first_document);
  tokens.end = std::min(tokens.end, tokens.begin + sequence_length_);
  std::vector<int64_t> ids(static_cast<size_t>(tokens.size()));
  std::vector<uint8_t> carries_loss(ids.size());
  part.shard->read_tokens(tokens, ids);
  part.shard->read_target_mask(tokens, carries_loss);
  append_document(ids, ids.size(), carries_loss, batch);
  batch.documents.push_back(document);
}

// The token after the slice is read, too: if the last document goes on, it is the last position's
// target.
void RowSource::append_slice(Range tokens, MicroBatch& batch) const {
  const Range seen{tokens.begin, std::min(tokens.end + 1, corpus_.num_tokens())};
  std::vector<int64_t> ids(static_cast<size_t>(seen.size()));
  corpus_.read_tokens(seen, ids);
  const std::vector<uint8_t> carries_loss(ids.size(), 1);
  const auto rest = std::span<const int64_t>(ids);
  int64_t document = corpus_.document_of(tokens.begin);
  size_t begin = 0;
  const auto append = [&](std::span<const int64_t> piece, size_t length) {
    append_document(piece, length, carries_loss, batch);
    batch.documents.push_back(document++);
    begin += length;
  };
  for (const int64_t offset : corpus_.offsets_in(tokens)) {
    const size_t length = static_cast<size_t>(offset - tokens.begin) - begin;
    append(rest.subspan(begin, length), length);
  }
  const auto size = static_cast<size_t>(tokens.size());
  if (begin < size) append(rest.subspan(begin), size - begin);
}

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
