// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "io/token_shard.h"

namespace temper {

/// What a shard must fit. Nothing: it is not known, and not compared.
struct ModelFacts {
  std::optional<int64_t> vocab_size = {};
  std::optional<std::string> tokenizer_sha256 = {};  ///< Of the model folder's tokenizer.json, hex.
  std::filesystem::path tokenizer = {};              ///< That file.
  /// Of the texts of the chat templates that conversations may have been rendered by, hex.
  std::optional<std::vector<std::string>> template_sha256s = {};
  std::string template_owner = "the model";  ///< Whose templates they are, for messages.
  /// Whether shards may be of any other one instead, if it is the same for all. Their own check
  /// does not look at it.
  bool adopts_template = false;
};

/// The beginning of a hash, for messages.
std::string shortened(const std::string& sha256);

/// Reads all of a tokenizer.json, though nothing here encodes text with it.
/// Throws: ModelError if it is damaged: no JSON object, or one without a tokenizer's model.
void require_whole_tokenizer(const std::filesystem::path& path);

/// Throws: DataError with all reasons why the shard cannot be used with the model; ModelError if
///   its tokenizer is not another one, but damaged.
void require_fits(const TokenShard& shard, const ModelFacts& model);

}  // namespace temper
