// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdio>

#include "app/commands.h"
#include "app/launch_check.h"
#include "app/loaded_model.h"
#include "core/error.h"
#include "train/evaluation.h"

namespace temper {
namespace {

int evaluate_model(const MpiSession& session, const RunConfig& config) {
  LoadedModel model(session, config, StorePurpose::kFrozen);
  const std::vector<HoldOut> holdouts = open_holdouts(session, *model.ranks, config, model.folder);
  if (holdouts.empty()) {
    throw ConfigError("data.holdout names no token shard", "list at least one under data.holdout");
  }
  model.load_start();
  for (const HoldOut& holdout : holdouts) {
    const EvaluationResult result =
        evaluate(*model.engine, holdout, *model.ranks, model.ranks->device());
    if (session.rank() != 0) continue;
    std::printf("holdout=%s loss=%.9g perplexity=%.6g num_targets=%lld\n", holdout.name.c_str(),
                result.loss, std::exp(result.loss), static_cast<long long>(result.num_targets));
  }
  return static_cast<int>(ExitCode::kFinished);
}

}  // namespace

int run_eval(const std::string& config_path, const std::vector<std::string>& overrides) {
  return run_as_launched([&](const MpiSession& session) {
    return evaluate_model(session, load_run_config(config_path, overrides));
  });
}

}  // namespace temper
