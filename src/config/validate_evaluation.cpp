// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <vector>

#include "config/run_config.h"
#include "core/concat.h"

namespace temper {

namespace {

// What an option that names a hold-out needs to be of use.
void check_deciding(const RunConfig& config, const std::string& option, const std::string& name,
                    std::vector<Problem>& problems) {
  if (name.empty()) return;
  if (std::ranges::find(config.holdouts, name, &HoldOutOptions::name) == config.holdouts.end()) {
    problems.push_back({concat(option, " is ", quote(name), ", which no hold-out is named"),
                        "name one of data.holdout, or leave it out",
                        {option, "data.holdout"}});
  }
  if (config.train.evaluate_every_steps > 0) return;
  problems.push_back({concat(option, " has no effect: train.evaluate_every_steps is 0"),
                      "set how often hold-outs are evaluated, or leave it out",
                      {option, "train.evaluate_every_steps"}});
}

}  // namespace

std::vector<Problem> validate_evaluation(const RunConfig& config) {
  std::vector<Problem> problems;
  const CheckpointOptions& checkpoint = config.checkpoint;
  const int64_t every = config.train.evaluate_every_steps;
  check_deciding(config, "early_stop.holdout", config.train.early_stop.holdout, problems);
  check_deciding(config, "checkpoint.keep_best", checkpoint.keep_best, problems);
  if (!checkpoint.keep_best.empty() && every > 0 && checkpoint.every_steps % every != 0) {
    problems.push_back({concat("checkpoint.keep_best needs the loss of each checkpoint: they are "
                               "saved every ",
                               checkpoint.every_steps, " steps, and evaluated every ", every),
                        "set checkpoint.every_steps to a multiple of train.evaluate_every_steps",
                        {"checkpoint.every_steps", "train.evaluate_every_steps"}});
  }
  if (checkpoint.publishes_best && checkpoint.keep_best.empty()) {
    problems.push_back({"checkpoint.final is best, but checkpoint.keep_best is not set",
                        "name the hold-out that decides there, or leave checkpoint.final out",
                        {"checkpoint.final", "checkpoint.keep_best"}});
  }
  const bool has_what_to_evaluate =
      !config.holdouts.empty() || !config.train.sample_prompts.empty();
  if (every == 0 || has_what_to_evaluate) return problems;
  problems.push_back({concat("train.evaluate_every_steps is ", config.train.evaluate_every_steps,
                             ", but data.holdout is empty"),
                      "list a hold-out, or leave train.evaluate_every_steps out",
                      {"train.evaluate_every_steps", "data.holdout"}});
  return problems;
}

}  // namespace temper
