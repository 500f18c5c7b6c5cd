// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
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
  const std::vector<HoldOut> holdouts = to_holdouts(config, rows);
  model.load_start();
  for (const HoldOut& holdout : holdouts) {
    const EvaluationResult result =
        *evaluate(*model.engine, holdout, *model.ranks, model.ranks->device());
    if (session.rank() != 0) continue;
    std::printf("holdout=%s loss=%.9g perplexity=%.6g num_targets=%lld\n", holdout.name.c_str(),
                result.loss, std::exp(result.loss), static_cast<long long>(result.num_targets));
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
