// SPDX-License-Identifier: Apache-2.0
#include "app/end_of_turn.h"

#include <algorithm>

#include "core/concat.h"

namespace temper {
namespace {

std::string list_of(const std::vector<int64_t>& tokens) {
  std::string list;
  for (const int64_t token : tokens) list += concat(list.empty() ? "" : ", ", token);
  return list.empty() ? "none" : list;
}

}  // namespace

std::vector<int64_t> foreign_turn_ends(const Mixture& mixture, const ModelConfig& model) {
  std::vector<int64_t> tokens;
  const auto has = [](const std::vector<int64_t>& list, int64_t token) {
    return std::ranges::find(list, token) != list.end();
  };
  for (const auto& source : mixture.sources()) {
    for (const Corpus::Part& part : source->corpus().parts()) {
      const std::optional<int64_t> token = part.shard->header().end_of_turn_id;
      if (!token || has(model.eos_token_ids, *token) || has(tokens, *token)) continue;
      tokens.push_back(*token);
    }
  }
  return tokens;
}

std::string describe_turn_ends(const std::vector<int64_t>& tokens, const ModelConfig& model,
                               const MethodOptions& method) {
  return concat(
      "turns in the data end with token ", list_of(tokens), ", and the model's texts with ",
      list_of(model.eos_token_ids), ": generation would not stop there; ",
      method.has_adapter() ? "add the token to eos_token_id in the base's generation_config.json"
                           : "set model.end_of_turn to add");
}

}  // namespace temper
