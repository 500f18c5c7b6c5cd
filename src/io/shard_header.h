// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/hash.h"
#include "core/range.h"
#include "io/file.h"

namespace temper {

enum class ShardKind { kPretrain, kSft };

/// A dataset of a shard: a contiguous part of the file that is hashed in blocks.
struct ShardDataset {
  std::string name;
  int64_t element_bytes = 1;
  Range bytes;                 ///< Of the file; empty: the shard has no such dataset.
  std::vector<Digest> hashes;  ///< [ceil(bytes / block_bytes)].
};

/// All that a token shard says of itself; datasets/FORMAT.md explains each field.
struct ShardHeader {
  static constexpr int64_t kFormatVersion = 1;

  ShardKind kind = ShardKind::kPretrain;
  int64_t vocab_size = 0;
  std::string tokenizer_sha256;      ///< Lower-case hex.
  std::string chat_template_sha256;  ///< Empty for pretrain.
  std::string chat_template;
  std::string tool_use_template_sha256;  ///< Of a second one, for tools; empty: there is none.
  int64_t eos_token_id = 0;
  std::optional<int64_t> end_of_turn_id;  ///< What turns of an assistant end with, where known.
  int64_t num_tokens = 0;
  int64_t num_documents = 0;
  int64_t num_targets = 0;
  int64_t block_bytes = 0;
  std::string origin;       ///< JSON, for people.
  std::string side;         ///< `train` or `holdout`, as `origin` says; empty: it does not.
  std::string fingerprint;  ///< Identifies the content; equal to what the fields give.

  ShardDataset tokens;            // [num_tokens] uint16 or uint32
  ShardDataset document_offsets;  // [num_documents + 1] uint64
  ShardDataset target_mask;       // [num_tokens] uint8, sft only
};

std::string to_string(ShardKind kind);

/// Opens the shard through HDF5 once and checks all that is not payload: version, types, layout,
/// sizes, and the fingerprint over everything a reader acts on.
///
/// `file` is the same file, for the hash tables' bytes.
/// Throws: DataError.
ShardHeader read_shard_header(const File& file);

}  // namespace temper
