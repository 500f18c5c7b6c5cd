// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "core/range.h"
#include "io/hashed_payload.h"

namespace temper {

/// Reads all offsets of documents, and returns every 512th.
/// Throws: DataError if they do not rise strictly from 0 to `num_tokens`.
std::vector<int64_t> read_sparse_offsets(const HashedPayload& payload, int64_t num_tokens);

/// Where the documents of a shard begin. Memory holds one offset of each 512, the file the others.
/// May be used from many threads.
class DocumentOffsets {
 public:
  /// `sparse` is what `read_sparse_offsets` finds. `payload` is not copied.
  DocumentOffsets(const HashedPayload& payload, std::vector<int64_t> sparse);

  int64_t num_documents() const { return payload_.num_elements() - 1; }

  /// The tokens of one document.
  Range document(int64_t index) const;

  /// The document that a token belongs to.
  int64_t document_of(int64_t token) const;

  /// The offsets numbered `indices`; there are num_documents + 1, the last one past all tokens.
  std::vector<int64_t> offsets(Range indices) const;

  /// The offsets o with tokens.begin < o <= tokens.end: where the documents after the first begin,
  /// and the end of the last one, if it does not go on.
  std::vector<int64_t> offsets_in(Range tokens) const;

 private:
  const HashedPayload& payload_;
  std::vector<int64_t> sparse_;  // [ceil((num_documents + 1) / kStride)], every kStride-th offset.
};

}  // namespace temper
