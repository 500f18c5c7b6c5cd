// SPDX-License-Identifier: Apache-2.0
#include "app/advice.h"

#include <algorithm>
#include <optional>
#include <set>

#include "checkpoint/chat_template.h"
#include "config/warnings.h"
#include "core/concat.h"
#include "core/message_text.h"
#include "data/shard_checks.h"
#include "io/json.h"

namespace temper {
namespace {

// Looks at one thing after the other.
class Adviser {
 public:
  explicit Adviser(const AdviceFacts& facts) : facts_(facts), config_(facts.config) {}

  std::vector<std::string> run() {
    judge_rate();
    judge_epochs();
    judge_holdouts();
    judge_batch();
    for (const auto& source : facts_.plan.mixture.sources()) {
      judge_duplicates(source->corpus());
      if (source->corpus().kind() == ShardKind::kSft) judge_conversations(*source);
    }
    return std::move(warnings_);
  }

 private:
  // Adds a warning if the figure is out of the kind's bounds. `text` names the figure.
  void judge(const char* name, double figure, const std::string& text) {
    const WarningKind& kind = warning_kind(name);
    if (figure >= kind.least && figure <= kind.most) return;
    add(name, text);
  }

  void add(const char* name, const std::string& text) {
    std::string warning = warning_of(config_, name, text);
    if (!warning.empty()) warnings_.push_back(std::move(warning));
  }

  void judge_rate() {
    const int64_t num_parameters = num_elements(facts_.model.folder.units());
    const double most = highest_usual_rate(config_.method.kind, num_parameters);
    if (config_.optimizer.learning_rate <= most) return;
    add("learning_rate", concat("optimizer.learning_rate is ", config_.optimizer.learning_rate,
                                ", above ", most, " for method ", name_of(config_.method.kind),
                                " on ", readable_count(num_parameters), " parameters"));
  }

  void judge_epochs() {
    for (const SourceUse& use : source_uses(facts_.plan, config_)) {
      judge("epochs", use.epochs,
            concat(use.path, " is passed over ", use.epochs, " times, more than ",
                   warning_kind("epochs").most));
    }
  }

  void judge_holdouts() {
    judge("no_holdout", static_cast<double>(config_.holdouts.size()), "data.holdout is empty");
  }

  // Conversations are counted where there are any, else tokens.
  void judge_batch() {
    int64_t num_documents = 0, num_rows = 0;
    for (const auto& source : facts_.plan.mixture.sources()) {
      if (source->corpus().kind() != ShardKind::kSft) continue;
      num_documents += source->corpus().num_documents();
      num_rows += source->num_rows();
    }
    const auto rows = static_cast<double>(config_.data.global_batch_rows);
    const auto bounds = [](const char* name) {
      return concat(", not ", warning_kind(name).least, " to ", warning_kind(name).most);
    };
    if (num_rows > 0) {
      const double examples =
          rows * static_cast<double>(num_documents) / static_cast<double>(num_rows);
      judge("batch_examples", examples,
            concat("data.global_batch of ", config_.data.global_batch_rows, " rows holds about ",
                   examples, " conversations", bounds("batch_examples")));
    } else {
      const double tokens = rows * static_cast<double>(config_.data.sequence_length);
      judge("batch_tokens", tokens,
            concat("data.global_batch of ", config_.data.global_batch_rows, " rows holds ", tokens,
                   " tokens", bounds("batch_tokens")));
    }
  }

  // As preparation says what it did; others' shards say nothing of it.
  void judge_duplicates(const Corpus& corpus) {
    const Json origin = Json::parse(corpus.first().header().origin, nullptr, false);
    const Json recipe = origin.is_object() ? origin.value("recipe", Json()) : Json();
    if (!recipe.is_object()) return;
    const bool keeps_copies = recipe.value("deduplicate", Json()) == false;
    judge("duplicates", keeps_copies ? 1.0 : 0.0,
          concat("of the ", corpus.num_documents(), " documents of ", corpus.name(),
                 " none was dropped as a copy of another one"));
  }

  void judge_conversations(const RowSource& source) {
    const Corpus& corpus = source.corpus();
    const auto num_documents = static_cast<double>(corpus.num_documents());
    const double trained = static_cast<double>(corpus.num_targets()) /
                           static_cast<double>(corpus.num_tokens() - corpus.num_documents());
    judge("loss_on_input", trained,
          concat(100.0 * trained, " % of the tokens of ", corpus.name(), " carry loss"));
    const double cut = static_cast<double>(source.num_truncated()) / num_documents;
    judge("truncation", cut,
          concat("data.sequence_length of ", config_.data.sequence_length, " cuts ",
                 source.num_truncated(), " of the ", corpus.num_documents(), " conversations of ",
                 corpus.name()));
    judge_ends(corpus);
    judge_template(corpus.first().header(), corpus.name());
  }

  // By the first documents: does the last token to be learnt end a turn?
  void judge_ends(const Corpus& corpus) {
    constexpr int64_t kMostDocuments = 64;
    const TokenShard& shard = corpus.first();
    std::set<int64_t> ends(facts_.model.folder.config().eos_token_ids.begin(),
                           facts_.model.folder.config().eos_token_ids.end());
    if (const auto end = shard.header().end_of_turn_id) ends.insert(*end);
    const int64_t count = std::min(shard.num_documents(), kMostDocuments);
    int64_t num_ended = 0;
    for (int64_t document = 0; document < count; ++document) {
      num_ended += ends.contains(last_target(shard, document)) ? 1 : 0;
    }
    judge("no_end", static_cast<double>(num_ended) / static_cast<double>(count),
          concat("in ", corpus.name(), " the last token to be learnt ends a turn in ", num_ended,
                 " of the first ", count, " conversations"));
  }

  static int64_t last_target(const TokenShard& shard, int64_t document) {
    const Range tokens = shard.documents().document(document);
    std::vector<int64_t> ids(static_cast<size_t>(tokens.size()));
    std::vector<uint8_t> mask(ids.size());
    shard.read_tokens(tokens, ids);
    shard.read_target_mask(tokens, mask);
    const auto last = std::ranges::find(mask.rbegin(), mask.rend(), 1);
    return ids[static_cast<size_t>(mask.rend() - last) - 1];  // Each document has a target.
  }

  void judge_template(const ShardHeader& header, const std::string& name) {
    const std::vector<std::string> own = chat_template_sha256s(config_.model.path);
    if (own.empty()) return;  // It learns one.
    const bool is_own = std::ranges::find(own, header.chat_template_sha256) != own.end();
    judge(
        "template", is_own ? 0.0 : 1.0,
        concat(name, " was rendered by the chat template ", shortened(header.chat_template_sha256),
               ", and the model's own is ", shortened(own.front())));
  }

  const AdviceFacts& facts_;
  const RunConfig& config_;
  std::vector<std::string> warnings_;
};

}  // namespace

std::vector<std::string> find_warnings(const AdviceFacts& facts) { return Adviser(facts).run(); }

}  // namespace temper
