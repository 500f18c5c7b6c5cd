// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/checkpoint_options.h"
#include "comm/watchdog_options.h"
#include "config/model_options.h"
#include "config/problem.h"
#include "data/data_options.h"
#include "model/adapter/method.h"
#include "model/model_config.h"
#include "model/trained_parameters.h"
#include "optim/adamw.h"
#include "optim/schedule.h"
#include "train/train_options.h"
#include "zero/quantisation_options.h"
#include "zero/zero_options.h"

namespace temper {

struct RunOptions {
  std::string folder;  ///< Checkpoints, metrics.jsonl and the log lie in it; made if missing.
};

/// One set of documents that is only evaluated on.
struct HoldOutOptions {
  enum class Role {
    kAny,
    kDomain,   ///< Text of the domain.
    kTask,     ///< Answers as they are wanted.
    kGeneral,  ///< Text that is not to be learnt: what its loss rises is forgetting.
  };

  std::string name;      ///< In the metrics.
  std::string path;      ///< A token shard, or a pattern for a set of them.
  int64_t max_rows = 0;  ///< Only its first so many rows; 0: all.
  Role role = Role::kAny;
};

/// All that decides a run, section by section as in the YAML file; `visit` in run_config.cpp lists
/// the keys. Defaults are in the option structs.
///
/// Relative paths are relative to the folder the command is started in, on each rank. Nothing in
/// them is expanded: no ~, no $VARIABLE.
struct RunConfig {
  RunOptions run;
  ModelOptions model;
  MethodOptions method;
  QuantisationOptions quantise;
  DataOptions data;
  std::vector<HoldOutOptions> holdouts;
  TrainOptions train;
  TrainedOptions trained;  ///< `only` and `freeze` of the section `train`.
  AdamWOptions optimizer;
  std::vector<ParameterGroup> groups;  ///< Of the section `optimizer`.
  ScheduleOptions schedule;
  ZeroOptions parallel;
  CheckpointOptions checkpoint;
  ContinueOptions continuation;  ///< The section `continue`.
  WatchdogOptions watchdog;
  std::vector<std::string> silence;  ///< Names of warnings that are not to be given.
};

/// What a file and the command line's `key.path=value` overrides say, with all that is wrong in
/// them: reading, then `validate`, as far as what it concerns could be read.
struct RunConfigReport {
  RunConfig config;
  std::vector<Problem> problems;
};

/// Reads a configuration for `temper check`.
RunConfigReport read_run_config(const std::string& path, const std::vector<std::string>& overrides);

/// Reads a configuration for a run.
/// Throws: ConfigError with all problems.
RunConfig load_run_config(const std::string& path, const std::vector<std::string>& overrides);

/// The same configuration with all defaults, as a file that reads as the same again.
std::string to_yaml(const RunConfig& config);

/// Reads what `to_yaml` wrote. `name` is where it comes from, for messages.
/// Throws: ConfigError with all problems.
RunConfig parse_run_config(const std::string& yaml, const std::string& name);

/// All contradictions between options that each are fine by themselves.
std::vector<Problem> validate(const RunConfig& config);

/// Those of them that concern hold-outs and what they decide; `validate` has them, too.
std::vector<Problem> validate_evaluation(const RunConfig& config);

/// Those of them that concern what holds against forgetting; `validate` has them, too.
std::vector<Problem> validate_forgetting(const RunConfig& config);

/// The same for what depends on the number of ranks: each must have a micro-batch of a step.
std::vector<Problem> validate_ranks(const RunConfig& config, int world_size);

/// The same for what depends on the number of steps, which `train.epochs` leaves to the data.
std::vector<Problem> validate_steps(const RunConfig& config, int64_t num_steps);

/// The same for what depends on the model.
std::vector<Problem> validate_model(const RunConfig& config, const ModelConfig& model);

/// Optimizer steps of the run: `max_steps`, or so many that each of the mixture's rows has been
/// seen `epochs` times.
int64_t num_steps_of(const RunConfig& config, int64_t rows_per_epoch);

/// A number that divides `total`: the nearest to `wanted` below and above, as "3 or 6".
std::string nearest_divisors(int64_t total, int64_t wanted);

}  // namespace temper
