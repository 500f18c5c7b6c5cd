// SPDX-License-Identifier: Apache-2.0
#include "data/shard_checks.h"

#include <algorithm>

#include "core/concat.h"
#include "core/error.h"

namespace temper {
namespace {

std::string shortened(const std::string& sha256) { return sha256.substr(0, 12) + "…"; }

std::string describe_templates(const std::vector<std::string>& sha256s) {
  if (sha256s.empty()) return "the model's folder has none";
  std::string text = "the model's is ";
  for (size_t k = 0; k < sha256s.size(); ++k) text += (k > 0 ? " or " : "") + shortened(sha256s[k]);
  return text;
}

}  // namespace

void require_fits(const TokenShard& shard, const ModelFacts& model) {
  const ShardHeader& header = shard.header();
  const std::string name = shard.path().string();
  std::string problems;
  std::string remedy;
  const auto add = [&](const std::string& problem, const char* cure) {
    problems += (problems.empty() ? "" : "\n") + problem;
    if (remedy.empty()) remedy = cure;
  };
  constexpr const char* kTokenizerRemedy =
      "prepare the shard again with the tokenizer in model.path, or restore the tokenizer.json "
      "there "
      "if it was altered";
  if (model.vocab_size && header.vocab_size > *model.vocab_size) {
    add(concat(name, " has a vocabulary of ", header.vocab_size, " tokens, more than the model's ",
               *model.vocab_size),
        kTokenizerRemedy);
  }
  if (model.tokenizer_sha256 && header.tokenizer_sha256 != *model.tokenizer_sha256) {
    add(concat(name, " was made with tokenizer ", shortened(header.tokenizer_sha256),
               ", but the model's is ", shortened(*model.tokenizer_sha256)),
        kTokenizerRemedy);
  }
  const auto& templates = model.template_sha256s;
  if (header.kind == ShardKind::kSft && templates &&
      std::ranges::find(*templates, header.chat_template_sha256) == templates->end()) {
    add(concat(name, " was rendered by the chat template ", shortened(header.chat_template_sha256),
               ", and ", describe_templates(*templates)),
        "prepare the shard again, give the model's folder the template that rendered it, or set "
        "data.chat_template to any");
  }
  if (!problems.empty()) throw DataError(problems, remedy);
}

}  // namespace temper
