// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "io/token_shard.h"

namespace temper {

/// What a shard must fit. Nothing: it is not known, and not compared.
struct ModelFacts {
  std::optional<int64_t> vocab_size = {};
  std::optional<std::string> tokenizer_sha256 = {};  ///< Of the model folder's tokenizer.json, hex.
  /// Of the texts of the chat templates that conversations may have been rendered by, hex.
  std::optional<std::vector<std::string>> template_sha256s = {};
};

/// Throws: DataError with all reasons why the shard cannot be used with the model.
void require_fits(const TokenShard& shard, const ModelFacts& model);

}  // namespace temper
