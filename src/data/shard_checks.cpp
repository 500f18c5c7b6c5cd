// SPDX-License-Identifier: Apache-2.0
#include "data/shard_checks.h"

#include <algorithm>

#include "core/concat.h"
#include "core/error.h"
#include "io/file.h"
#include "io/json.h"

namespace temper {
namespace {

std::string describe_templates(const ModelFacts& model) {
  const std::vector<std::string>& sha256s = *model.template_sha256s;
  if (sha256s.empty()) return model.template_owner + "'s folder has none";
  std::string text = model.template_owner + "'s is ";
  for (size_t k = 0; k < sha256s.size(); ++k) text += (k > 0 ? " or " : "") + shortened(sha256s[k]);
  return text;
}

}  // namespace

std::string shortened(const std::string& sha256) {
  return sha256.empty() ? "none" : sha256.substr(0, 12) + "…";
}

void require_whole_tokenizer(const std::filesystem::path& path) {
  using Event = Json::parse_event_t;
  std::string member;
  bool has_model = false;
  // Keeps nothing of it: a vocabulary has many members.
  const auto look = [&](int depth, Event event, const Json& parsed) {
    if (depth == 1 && event == Event::key) member = parsed.get_ref<const std::string&>();
    has_model = has_model || (depth == 1 && event == Event::object_start && member == "model");
    return depth == 0;
  };
  const std::string text = read_file(path, FilePurpose::kModel);
  const bool is_json = !Json::parse(text, look, /*allow_exceptions=*/false).is_discarded();
  if (is_json && has_model) return;
  if (!is_json) parse_json(text, {path.string(), FilePurpose::kModel});  // Throws, and says where.
  throw ModelError(concat(path.string(), " is damaged: it describes no tokenizer, since it has no ",
                          "object \"model\""),
                   "copy the file again from where the model comes from");
}

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
      "there if it was altered";
  if (model.vocab_size && header.vocab_size > *model.vocab_size) {
    add(concat(name, " has a vocabulary of ", header.vocab_size, " tokens, more than the model's ",
               *model.vocab_size),
        kTokenizerRemedy);
  }
  if (model.tokenizer_sha256 && header.tokenizer_sha256 != *model.tokenizer_sha256) {
    if (!model.tokenizer.empty()) require_whole_tokenizer(model.tokenizer);
    add(concat(name, " was made with tokenizer ", shortened(header.tokenizer_sha256),
               ", but the model's is ", shortened(*model.tokenizer_sha256)),
        kTokenizerRemedy);
  }
  const auto& templates = model.template_sha256s;
  if (header.kind == ShardKind::kSft && templates && !model.adopts_template &&
      std::ranges::find(*templates, header.chat_template_sha256) == templates->end()) {
    add(concat(name, " was rendered by the chat template ", shortened(header.chat_template_sha256),
               ", and ", describe_templates(model)),
        "prepare the shard again, set data.chat_template to shard if the trained model is to be "
        "used with the shard's template, or to any if it is to keep its own");
  }
  if (!problems.empty()) throw DataError(problems, remedy);
}

}  // namespace temper
