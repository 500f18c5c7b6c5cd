// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <hdf5.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <variant>
#include <vector>

namespace temper {

using ShardAttribute = std::variant<int64_t, std::string>;

/// What a test wants in a token shard.
struct ShardContent {
  std::vector<std::vector<int64_t>> documents;
  std::vector<std::vector<uint8_t>> masks;  ///< One per document for kind sft, none for pretrain.
  int64_t vocab_size = 1000;
  int64_t block_bytes = 64;
  std::map<std::string, ShardAttribute> instead;  ///< Attributes that are to be wrong.
  std::vector<uint64_t> offsets_instead;          ///< The same for document_offsets.
};

/// Writes a shard as datasets/FORMAT.md describes, with a fingerprint over what `instead` says.
/// `spoil` may then damage its structure.
std::filesystem::path write_shard(const std::filesystem::path& path, const ShardContent& content,
                                  const std::function<void(hid_t file)>& spoil = {});

/// Adds a dataset in one piece. Shapes: data [product of lengths * type size].
void add_dataset(hid_t file, const std::string& name, hid_t type,
                 const std::vector<hsize_t>& lengths, const void* data);

void add_attribute(hid_t file, const std::string& name, const ShardAttribute& value);

/// `count` documents of lengths 1 to `longest`, their tokens counting up from 0 modulo the
/// vocabulary, so that a token tells its place.
ShardContent counting_documents(int64_t count, int64_t longest);

/// The same as kind sft: every third token is a target, and each document's last one.
ShardContent counting_conversations(int64_t count, int64_t longest);

}  // namespace temper
