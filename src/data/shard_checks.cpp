// SPDX-License-Identifier: Apache-2.0
#include "data/shard_checks.h"

#include "core/concat.h"
#include "core/error.h"

namespace temper {

std::vector<std::string> mismatches(const TokenShard& shard, const ModelFacts& model) {
  std::vector<std::string> found;
  const ShardHeader& header = shard.header();
  const std::string name = shard.path().string();
  if (header.vocab_size > model.vocab_size) {
    found.push_back(concat(name, " has a vocabulary of ", header.vocab_size,
                           " tokens, more than the model's ", model.vocab_size));
  }
  if (header.tokenizer_sha256 != model.tokenizer_sha256) {
    found.push_back(concat(name, " was made with tokenizer ", header.tokenizer_sha256.substr(0, 12),
                           "…, but the model's is ", model.tokenizer_sha256.substr(0, 12), "…"));
  }
  return found;
}

void require_fits(const TokenShard& shard, const ModelFacts& model) {
  const std::vector<std::string> found = mismatches(shard, model);
  if (found.empty()) return;
  std::string all = found.front();
  for (size_t k = 1; k < found.size(); ++k) all += "\n" + found[k];
  throw DataError(all, "prepare the shard again with the tokenizer in model.path");
}

}  // namespace temper
