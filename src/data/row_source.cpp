// SPDX-License-Identifier: Apache-2.0
#include "data/row_source.h"

#include <algorithm>
#include <utility>

#include "core/concat.h"
#include "core/error.h"
#include "core/targets.h"
#include "data/packing.h"

namespace temper {

RowSource::RowSource(std::filesystem::path path, int64_t sequence_length)
    : shard_(std::move(path)), sequence_length_(sequence_length), num_tokens_(shard_.num_tokens()) {
  if (shard_.header().kind == ShardKind::kSft) pack();
}

int64_t RowSource::num_rows() const {
  if (shard_.header().kind == ShardKind::kSft) return static_cast<int64_t>(packed_.size());
  return (shard_.num_tokens() + sequence_length_ - 1) / sequence_length_;
}

void RowSource::pack() {
  std::vector<int64_t> documents;
  std::vector<int64_t> lengths;
  num_tokens_ = 0;
  for (int64_t index = 0; index < shard_.num_documents(); ++index) {
    Range tokens = shard_.documents().document(index);
    if (tokens.size() > sequence_length_) {
      tokens.end = tokens.begin + sequence_length_;
      ++num_truncated_;
    }
    if (!has_target(tokens)) {
      ++num_without_target_;
      continue;
    }
    documents.push_back(index);
    lengths.push_back(tokens.size());
    num_tokens_ += tokens.size();
  }
  if (documents.empty()) {
    throw DataError(concat(shard_.path().string(), " has no target within the first ",
                           sequence_length_, " tokens of any document"),
                    "raise data.sequence_length");
  }
  packed_ = pack_best_fit(lengths, sequence_length_);
  for (auto& row : packed_) {
    for (int64_t& document : row) document = documents[static_cast<size_t>(document)];
  }
}

bool RowSource::has_target(Range document) const {
  std::vector<uint8_t> mask(static_cast<size_t>(document.size()));
  shard_.read_target_mask(document, mask);
  return std::find(mask.begin(), mask.end(), 1) != mask.end();
}

void RowSource::append_row(int64_t row, MicroBatch& batch) const {
  if (batch.document_begins.empty()) batch.document_begins.push_back(0);
  if (shard_.header().kind == ShardKind::kSft) {
    for (const int64_t index : packed_[static_cast<size_t>(row)]) {
      Range tokens = shard_.documents().document(index);
      tokens.end = std::min(tokens.end, tokens.begin + sequence_length_);
      append_document(tokens, batch);
    }
    return;
  }
  const Range tokens{row * sequence_length_,
                     std::min(shard_.num_tokens(), (row + 1) * sequence_length_)};
  Range part{tokens.begin, tokens.begin};
  for (const int64_t end : shard_.documents().offsets_in(tokens)) {
    part = {part.end, end};
    append_document(part, batch);
  }
  if (part.end < tokens.end) append_document({part.end, tokens.end}, batch);
}

// Appends tokens of one document. The token after them, if the document goes on, is the last one's
// target.
void RowSource::append_document(Range tokens, MicroBatch& batch) const {
  const Range document = shard_.documents().document(shard_.documents().document_of(tokens.begin));
  const bool is_sft = shard_.header().kind == ShardKind::kSft;
  const Range seen{tokens.begin, is_sft ? tokens.end : std::min(tokens.end + 1, document.end)};
  std::vector<int64_t> ids(static_cast<size_t>(seen.size()));
  shard_.read_tokens(seen, ids);
  std::vector<uint8_t> carries_loss(ids.size(), 1);
  if (is_sft) shard_.read_target_mask(seen, carries_loss);
  for (int64_t position = 0; position < tokens.size(); ++position) {
    const auto next = static_cast<size_t>(position + 1);
    const bool has_target = next < ids.size() && carries_loss[next] == 1;
    batch.tokens.push_back(ids[static_cast<size_t>(position)]);
    batch.positions.push_back(position);
    batch.targets.push_back(has_target ? ids[next] : kNoTarget);
    batch.num_targets += has_target ? 1 : 0;
  }
  batch.document_begins.push_back(static_cast<int64_t>(batch.tokens.size()));
}

}  // namespace temper
