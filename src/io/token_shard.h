// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "core/once_for_all.h"
#include "core/range.h"
#include "io/document_offsets.h"
#include "io/file.h"
#include "io/hashed_payload.h"
#include "io/shard_header.h"

namespace temper {

/// A token shard: documents of tokens, end to end, and for sft which tokens are to be predicted.
///
/// HDF5 is asked once, at opening, where everything lies; reads are plain preads and may come from
/// many threads at once. What is read was compared with its hash.
/// Throws: DataError.
class TokenShard {
 public:
  /// One rank alone reads where all documents begin. Collective if `once` is.
  explicit TokenShard(std::filesystem::path path, const OnceForAll& once = find_alone);
  TokenShard(const TokenShard&) = delete;
  TokenShard& operator=(const TokenShard&) = delete;

  const std::filesystem::path& path() const { return file_.path(); }
  const ShardHeader& header() const { return header_; }
  int64_t num_tokens() const { return header_.num_tokens; }
  int64_t num_documents() const { return header_.num_documents; }
  const DocumentOffsets& documents() const { return documents_; }

  /// Shapes: out [tokens.size()]. Throws too if a token is not in the vocabulary.
  void read_tokens(Range tokens, std::span<int64_t> out) const;

  /// 1 where the token is to be predicted; of a shard of kind sft. Shapes: out [tokens.size()].
  void read_target_mask(Range tokens, std::span<uint8_t> out) const;

  /// Reads everything: each block against its hash, each token against the vocabulary, the mask
  /// against the documents and the number of targets.
  void verify_all() const;

 private:
  void require_inside(Range tokens, size_t out_size) const;
  template <typename Token>
  void read_tokens_as(Range tokens, std::span<int64_t> out) const;
  [[noreturn]] void refuse_token(int64_t position, int64_t token) const;
  void verify_mask() const;

  File file_;
  ShardHeader header_;
  HashedPayload tokens_;
  HashedPayload offsets_;
  HashedPayload mask_;
  DocumentOffsets documents_;
};

/// Reads the target masks of documents that come in rising order, many of them at once.
class TargetMaskReader {
 public:
  /// `shard` is of kind sft, and is not copied.
  explicit TargetMaskReader(const TokenShard& shard) : shard_(shard) {}

  /// As TokenShard::read_target_mask; good until the next call.
  std::span<const uint8_t> read(Range tokens);

 private:
  const TokenShard& shard_;
  Range window_;
  std::vector<uint8_t> mask_;  // [window_.size()]
};

}  // namespace temper
