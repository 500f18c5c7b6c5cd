// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/once_for_all.h"
#include "core/range.h"
#include "io/shard_set.h"
#include "io/token_shard.h"

namespace temper {

/// Documents that are told apart from the others of a corpus.
struct NamedDocuments {
  std::string name;
  Range documents;
};

/// The shards that a corpus was cut into, read as if all their documents stood in one: what is read
/// does not depend on the cuts. May be used from many threads. Throws: DataError.
class Corpus {
 public:
  /// A shard, with where its own tokens and documents begin in the corpus.
  struct Part {
    std::unique_ptr<const TokenShard> shard;
    int64_t first_token = 0;
    int64_t first_document = 0;
  };

  /// Refuses shards that do not belong together: of another kind, tokenizer, chat template or side
  /// than the first, or with the content of another one. Collective if `once` is.
  explicit Corpus(const ShardSet& set, const OnceForAll& once = find_alone);

  /// Its path or pattern.
  const std::string& name() const { return name_; }
  const std::vector<Part>& parts() const { return parts_; }  ///< In the order of their documents.
  const TokenShard& first() const { return *parts_.front().shard; }
  ShardKind kind() const { return first().header().kind; }

  int64_t num_tokens() const;
  int64_t num_documents() const;
  int64_t num_targets() const;

  /// Identifies the files' contents and their order: of a corpus in one file that file's own.
  std::string fingerprint() const;

  /// The part that a document lies in.
  const Part& part_with_document(int64_t document) const;

  /// The document that a token belongs to.
  int64_t document_of(int64_t token) const;

  /// As those of TokenShard and DocumentOffsets.
  void read_tokens(Range tokens, std::span<int64_t> out) const;
  std::vector<int64_t> offsets_in(Range tokens) const;
  void verify_all() const;

  /// Its files, where they are several and more than the parts that one set was cut into.
  std::vector<NamedDocuments> files_told_apart() const;

 private:
  template <typename Visit>
  void visit_parts(Range tokens, Visit visit) const;

  std::string name_;
  std::vector<Part> parts_;
};

}  // namespace temper
