// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdio>

#include "app/commands.h"
#include "app/launch_check.h"
#include "app/loaded_model.h"
#include "checkpoint/together.h"
#include "core/error.h"
#include "train/evaluation.h"

namespace temper {
namespace {

// An override that says which weights are meant leaves nothing to be chosen.
WeightsChoice choice_of(const EvaluationArguments& arguments) {
  const bool names_weights = std::ranges::any_of(arguments.overrides, [](const std::string& one) {
    return one.starts_with("model.path=") || one.starts_with("method=") ||
           one.starts_with("adapter.start=");
  });
  const bool is_auto = arguments.weights == WeightsChoice::kAuto;
  return is_auto && names_weights ? WeightsChoice::kBase : arguments.weights;
}

void print_result(const std::string& holdout, const EvaluationResult& result) {
  constexpr int kDigits = 9;  // Of a loss, so that equal bits show.
  std::printf("holdout=%s %s\n", holdout.c_str(), describe(result, kDigits).c_str());
  for (const EvaluationResult::Source& source : result.sources) {
    std::printf("  source=%s %s\n", source.name.c_str(),
                describe(source.documents, kDigits).c_str());
  }
}

int evaluate_model(const MpiSession& session, const RunConfig& run, WeightsChoice choice) {
  if (run.holdouts.empty()) {
    throw ConfigError("data.holdout names no token shard", "list at least one under data.holdout");
  }
  auto ranks = open_ranks(session, run);
  const ChosenWeights chosen = choose_weights(run, choice, *ranks);
  if (session.rank() == 0) std::printf("%s\n", chosen.text.c_str());
  const RunConfig& config = chosen.config;
  LoadedModel model(session, std::move(ranks), config, ModelOpening::Use::kEvaluation);
  const ShardOpening shards{find_model_facts(config, model.folder(), *model.ranks),
                            once_for(session, *model.ranks), find_once(*model.ranks)};
  const HoldOutRows rows = open_holdouts(config, shards);
  do_on_rank_0(*model.ranks, [&] {
    const TrainingShards trained = find_training_shards(config);
    for (const auto& holdout : rows) require_unseen(holdout->corpus(), trained);
  });
  const std::vector<HoldOut> holdouts = to_holdouts(config, rows, find_token_bytes(shards));
  model.load_start();
  for (const HoldOut& holdout : holdouts) {
    const EvaluationResult result =
        *evaluate(*model.engine, holdout, *model.ranks, model.ranks->device());
    if (session.rank() == 0) print_result(holdout.name, result);
  }
  return static_cast<int>(ExitCode::kFinished);
}

}  // namespace

int run_eval(const EvaluationArguments& arguments) {
  return run_as_launched([&](const MpiSession& session) {
    return evaluate_model(session, load_run_config(arguments.config_path, arguments.overrides),
                          choice_of(arguments));
  });
}

}  // namespace temper
