// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "config/key_rules.h"
#include "config/run_config.h"

/// The keys of the run's folder, its model and its data. A visitor is a Section, a SectionWriter or
/// a KeyCollector.
namespace temper::keys {

template <typename Visitor>
void visit_run_and_model(Visitor& root, RunConfig& config) {
  using namespace rules;
  root.section("run", {"Where the run is kept."}, [&](auto& section) {
    section.text("folder", config.run.folder, kFolder,
                 {"Checkpoints, metrics and the log lie in it; it is made if it is missing."});
  });
  root.section("model", {"The model to begin with."}, [&](auto& section) {
    section.text("path", config.model.path, kFolder, {"A Hugging Face model folder."});
    section.choice(
        "dtype", config.model.dtype, kDtypes,
        {"What weights are computed with; auto: bfloat16 on a GPU or where the processor "
         "has instructions for it."});
    section.choice("device", config.model.device, kDevices, {"What computes."});
    section.choice(
        "end_of_turn", config.model.end_of_turn, kTurnEnds,
        {"A token that ends turns in the data and no text of the model: the result's end "
         "tokens stay (keep), or it becomes one of them (add)."});
  });
}

template <typename Visitor>
void visit_sources(Visitor& section, RunConfig& config) {
  using namespace rules;
  section.list(
      "train", config.data.sources, {"What is trained on; one entry at least."},
      [](auto& item, auto& source) {
        item.text("path", source.path, kShard, {"A token shard, or a pattern for a set of them."});
        item.real_or_none("weight", source.weight, kPositive,
                          {"Its share of the tokens, relative to the others' weights; all "
                           "sources have one or none has."});
        item.real("epochs", source.epochs, kPasses,
                  {"Without weights: its passes in one epoch of the mixture.", "passes"});
        item.integer("max_tokens", source.max_tokens, kTokensOrAll,
                     {"Without weights: what an epoch has of it at most; 0: all.", "tokens"});
      });
  section.section("mixture", {"How sources without weights share the tokens."}, [&](auto& mixture) {
    mixture.real("temperature", config.data.mixture.temperature, kPositive,
                 {"A source weighs by its tokens to the power of 1 / temperature: more brings the "
                  "sources' shares closer together."});
  });
  section.list(
      "holdout", config.holdouts, {"What is only evaluated on."}, [](auto& item, auto& holdout) {
        item.text("name", holdout.name, kName, {"In the metrics."});
        item.text("path", holdout.path, kShard, {"A token shard, or a pattern for a set of them."});
        item.integer("max_rows", holdout.max_rows, kStepsOrNone,
                     {"Only its first so many rows; 0: all.", "rows"});
        item.choice("role", holdout.role, kRoles,
                    {"What it stands for: a loss that rises on general text is told as "
                     "forgetting."});
      });
}

template <typename Visitor>
void visit_data(Visitor& section, RunConfig& config) {
  using namespace rules;
  DataOptions& data = config.data;
  visit_sources(section, config);
  section.choice(
      "chat_template", data.chat_template, kChatTemplates,
      {"By which template conversations may have been rendered: the model's own, one for "
       "all shards, or any."});
  section.integer("sequence_length", data.sequence_length, kTokens,
                  {"The longest row; documents are packed into rows.", "tokens"});
  section.integer("global_batch", data.global_batch_rows, kRows,
                  {"Rows of a step, of all ranks together.", "rows"});
  section.integer("micro_batch", data.micro_batch_rows, kRows,
                  {"Rows of one forward pass; it divides global_batch.", "rows"});
  section.integer("seed", data.seed, kSeed, {"Of the order of rows."});
  section.integer("loader_threads", data.loader_threads, kThreads,
                  {"Threads of a rank that read shards.", "threads"});
  section.integer("prefetch", data.prefetch_depth, kThreads,
                  {"So much is read ahead.", "micro-batches"});
}

}  // namespace temper::keys
