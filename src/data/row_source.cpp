// SPDX-License-Identifier: Apache-2.0
#include "data/row_source.h"

#include <algorithm>
#include <span>
#include <stdexcept>
#include <utility>

#include "core/concat.h"
#include "core/error.h"
#include "core/targets.h"
#include "data/packing.h"

namespace temper {
namespace {

constexpr int64_t kDocumentsAtOnce = 512;  // Offsets of a page.

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

RowSource::RowSource(std::filesystem::path path, int64_t sequence_length)
    : shard_(std::move(path)), sequence_length_(sequence_length), num_tokens_(shard_.num_tokens()) {
  if (sequence_length < 1) throw std::invalid_argument("a row needs at least one token");
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
  const int64_t num_documents = shard_.num_documents();
  for (int64_t first = 0; first < num_documents; first += kDocumentsAtOnce) {
    const int64_t end = std::min(first + kDocumentsAtOnce, num_documents);
    const auto offsets = shard_.documents().offsets({first, end + 1});
    for (size_t i = 0; i + 1 < offsets.size(); ++i) {
      const Range tokens = kept_part({offsets[i], offsets[i + 1]});
      if (tokens.end < offsets[i + 1]) ++num_truncated_;
      if (!has_target(tokens)) {
        ++num_without_target_;
        continue;
      }
      documents.push_back(first + static_cast<int64_t>(i));
      lengths.push_back(tokens.size());
      num_tokens_ += tokens.size();
    }
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

Range RowSource::kept_part(Range document) const {
  return {document.begin, std::min(document.end, document.begin + sequence_length_)};
}

bool RowSource::has_target(Range tokens) const {
  std::vector<uint8_t> mask(static_cast<size_t>(tokens.size()));
  shard_.read_target_mask(tokens, mask);
  return std::find(mask.begin(), mask.end(), 1) != mask.end();
}

void RowSource::append_row(int64_t row, MicroBatch& batch) const {
  if (batch.document_begins.empty()) batch.document_begins.push_back(0);
  if (shard_.header().kind == ShardKind::kSft) {
    for (const int64_t document : packed_.at(static_cast<size_t>(row))) {
      append_conversation(document, batch);
    }
  } else {
    append_slice(
        {row * sequence_length_, std::min(shard_.num_tokens(), (row + 1) * sequence_length_)},
        batch);
  }
}

void RowSource::append_conversation(int64_t document, MicroBatch& batch) const {
  const Range tokens = kept_part(shard_.documents().document(document));
  std::vector<int64_t> ids(static_cast<size_t>(tokens.size()));
  std::vector<uint8_t> carries_loss(ids.size());
  shard_.read_tokens(tokens, ids);
  shard_.read_target_mask(tokens, carries_loss);
  append_document(ids, ids.size(), carries_loss, batch);
}

// The token after the slice is read, too: if the last document goes on, it is the last position's
// target.
void RowSource::append_slice(Range tokens, MicroBatch& batch) const {
  const Range seen{tokens.begin, std::min(tokens.end + 1, shard_.num_tokens())};
  std::vector<int64_t> ids(static_cast<size_t>(seen.size()));
  shard_.read_tokens(seen, ids);
  const std::vector<uint8_t> carries_loss(ids.size(), 1);
  const auto rest = std::span<const int64_t>(ids);
  size_t begin = 0;
  for (const int64_t offset : shard_.documents().offsets_in(tokens)) {
    const auto end = static_cast<size_t>(offset - tokens.begin);
    append_document(rest.subspan(begin, end - begin), end - begin, carries_loss, batch);
    begin = end;
  }
  const auto size = static_cast<size_t>(tokens.size());
  if (begin < size) append_document(rest.subspan(begin), size - begin, carries_loss, batch);
}

}  // namespace temper
