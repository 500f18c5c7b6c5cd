// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdio>

#include "app/commands.h"
#include "app/launch_check.h"
#include "app/loaded_model.h"
#include "checkpoint/together.h"
#include "config/warnings.h"
#include "core/concat.h"
#include "core/error.h"
#include "core/log.h"
#include "data/loader.h"
#include "io/file.h"
#include "train/batch.h"
#include "train/rate_sweep.h"
#include "train/trainer.h"

namespace temper {
namespace {

// Around the rates that a method is trained with.
constexpr double kBelowBound = 1e-3, kAboveBound = 1e2;

RateSweep sweep_of(const RateOptions& options, const RunConfig& config) {
  const double usual = highest_usual_rate(config.method.kind, /*num_parameters=*/0);
  const double lowest = options.lowest.value_or(kBelowBound * usual);
  const double highest = options.highest.value_or(std::max(kAboveBound * usual, 10.0 * lowest));
  if (lowest >= highest) {
    throw ConfigError(concat("--from is ", lowest, ", and --to ", highest),
                      "sweep from a lower rate to a higher one");
  }
  return RateSweep(lowest, highest, options.num_steps);
}

// This rank's micro-batches of a step of the sweep.
std::vector<PackedBatch> batch_of(const TrainingPlan& plan, const RunConfig& config,
                                  const Communicator& ranks, int64_t step) {
  const RankSequence sequence{.per_step = config.data.num_micro_batches(),
                              .rank = ranks.rank(),
                              .num_ranks = ranks.world_size()};
  std::vector<PackedBatch> batch;
  for (int64_t k = 0; k < sequence.own_per_step(); ++k) {
    const int64_t index = sequence.index(step * sequence.own_per_step() + k);
    batch.push_back(to_packed_batch(plan.mixture.micro_batch(index), ranks.device()));
  }
  return batch;
}

void run_sweep(RateSweep& sweep, LoadedModel& model, const TrainingPlan& plan,
               const RunConfig& config) {
  RunState state;
  for (bool goes_on = true; goes_on;) {
    AdamWOptions adamw = config.optimizer;
    adamw.learning_rate = sweep.next_rate();
    Trainer trainer(*model.engine, *model.store, *model.ranks,
                    Schedule({.shape = ScheduleOptions::Shape::kConstant}, 1),
                    {adamw, config.train.max_grad_norm});
    const auto batch = batch_of(plan, config, *model.ranks, state.step);
    const StepResult result = trainer.train_step(batch, config.data.num_micro_batches(), state);
    goes_on = sweep.add(result.updated ? result.loss : std::nan(""));
    log_event(concat("sweep step=", state.step, " learning_rate=", adamw.learning_rate,
                     " loss=", result.loss));
  }
}

int find_rate(const MpiSession& session, const RateOptions& options) {
  const RunConfig config = load_run_config(options.config_path, options.overrides);
  if (!config.groups.empty()) {
    throw ConfigError("optimizer.groups have rates of their own, which the sweep does not change",
                      "leave them out: optimizer.groups=[]");
  }
  RateSweep sweep = sweep_of(options, config);
  LoadedModel model(session, open_ranks(session, config), config, ModelOpening::Use::kTraining);
  ShardOpening shards{find_model_facts(config, model.folder(), *model.ranks),
                      once_for(session, *model.ranks), find_once(*model.ranks)};
  const TrainingPlan plan = open_training(config, session.world_size(), {}, shards);
  model.load_start();
  run_sweep(sweep, model, plan, config);
  do_on_rank_0(*model.ranks, [&] {
    std::printf("%s%s\n", sweep.drawing().c_str(), sweep.verdict().c_str());
    if (!options.svg.empty()) write_file_atomically(options.svg, sweep.svg(), FilePurpose::kData);
  });
  return static_cast<int>(ExitCode::kFinished);
}

}  // namespace

int run_find_rate(const RateOptions& options) {
  return run_as_launched([&](const MpiSession& session) { return find_rate(session, options); });
}

}  // namespace temper
