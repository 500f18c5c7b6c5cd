// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/token_shard.h"

namespace temper {

/// What a shard must fit.
struct ModelFacts {
  int64_t vocab_size = 0;
  std::string tokenizer_sha256;  ///< Of the model folder's tokenizer.json, hex.
};

/// Why the shard cannot be used with the model, each in one sentence; none if it can.
std::vector<std::string> mismatches(const TokenShard& shard, const ModelFacts& model);

/// Throws: DataError with all mismatches.
void require_fits(const TokenShard& shard, const ModelFacts& model);

}  // namespace temper
