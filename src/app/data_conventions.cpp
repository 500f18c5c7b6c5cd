// SPDX-License-Identifier: Apache-2.0
#include "app/data_conventions.h"

#include <algorithm>

#include "core/concat.h"
#include "core/error.h"
#include "core/hash.h"

namespace temper {
namespace {

const TokenShard* first_of_conversations(const Mixture::Sources& sources) {
  for (const auto& source : sources) {
    if (source && source->corpus().kind() == ShardKind::kSft) return &source->corpus().first();
  }
  return nullptr;
}

void require_one_template(const Mixture::Sources& sources, const TokenShard& first) {
  const std::string& wanted = first.header().chat_template_sha256;
  for (const auto& source : sources) {
    if (!source || source->corpus().kind() != ShardKind::kSft) continue;
    const ShardHeader& header = source->corpus().first().header();
    if (header.chat_template_sha256 == wanted) continue;
    throw DataError(concat("the chat template that exports get must be one, and ",
                           first.path().string(), " was rendered by ", shortened(wanted), " and ",
                           source->corpus().name(), " by ", shortened(header.chat_template_sha256)),
                    "prepare all shards with one chat_template, or set data.chat_template to any "
                    "if exports are to keep the model's own");
  }
}

// A shard has the text of one template only.
void require_whole(const TokenShard& shard) {
  const ShardHeader& header = shard.header();
  const std::string name = shard.path().string();
  if (header.chat_template.empty()) {
    throw DataError(name + " does not say by which chat template it was rendered",
                    "make the shard again as datasets/FORMAT.md describes, or set "
                    "data.chat_template to any");
  }
  if (header.tool_use_template_sha256.empty()) return;
  throw DataError(concat(name, " was rendered by two chat templates, of which it has the text of ",
                         "one only: conversations with tools by the one named tool_use, ",
                         shortened(header.tool_use_template_sha256)),
                  "put both into the model's folder and set data.chat_template to model");
}

std::string list_of(const std::vector<int64_t>& tokens) {
  std::string list;
  for (const int64_t token : tokens) list += concat(list.empty() ? "" : ", ", token);
  return list.empty() ? "none" : list;
}

}  // namespace

std::string adopt_template(const RunConfig& config, const Mixture::Sources& sources,
                           ModelFacts& model) {
  if (!model.adopts_template) return {};
  const TokenShard* first = first_of_conversations(sources);
  if (first == nullptr) {
    const bool is_complete =
        std::ranges::all_of(sources, [](const auto& source) { return source != nullptr; });
    if (config.data.chat_template != DataOptions::ChatTemplate::kShard || !is_complete) return {};
    throw ConfigError("data.chat_template is shard, and no shard of data.train has a chat template",
                      "set it to model, or name a shard of conversations");
  }
  require_one_template(sources, *first);
  model.adopts_template = false;
  auto& own = *model.template_sha256s;
  const ShardHeader& header = first->header();
  if (!own.empty() && own.front() == header.chat_template_sha256) return {};
  require_whole(*first);
  own = {header.chat_template_sha256};
  model.template_owner = "the training data";
  return header.chat_template;
}

std::string describe_adoption(const ModelFacts& model, const std::string& chat_template) {
  return concat("exports get the chat template of ", model.template_owner, ", ",
                shortened(model.template_sha256s->front()), ", of ", chat_template.size(),
                " bytes, in place of the model's own, if it has any");
}

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
                               const std::string& remedy) {
  return concat("turns in the data end with token ", list_of(tokens),
                ", and the model's texts with ", list_of(model.eos_token_ids),
                ": generation would not stop there; ", remedy);
}

std::string remedy_of_turn_ends(const MethodOptions& method) {
  return method.has_adapter() ? "add the token to eos_token_id in the base's generation_config.json"
                              : "set model.end_of_turn to add";
}

}  // namespace temper
