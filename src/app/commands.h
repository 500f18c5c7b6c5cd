// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "app/chosen_weights.h"
#include "checkpoint/peft/merge.h"
#include "config/model_options.h"
#include "model/quantised/four_bit_format.h"
#include "train/generation.h"

namespace temper {

// The verbs of the command line. Each returns the exit code, or throws Error.

struct CheckOptions {
  std::string config_path;
  std::vector<std::string> overrides;  ///< key.path=value.
  int num_ranks = 1;
  int num_nodes = 1;
  std::string job_time;        ///< Of each job, as sbatch takes it; empty if it is not known.
  bool verifies_data = false;  ///< Every block of every shard is hashed.
  bool prints_config = false;  ///< Instead of all checks: the configuration with its defaults.
};

/// Finds every problem of a run that can be found without MPI and without a GPU, and prints a
/// summary, the problems, or `ok`.
int run_check(const CheckOptions& options);

/// Prints what a token shard, checkpoint, run, model or adapter folder is, one key=value a line.
/// With `verifies`, what has hashes is compared with them to the last byte; models and adapters
/// have none. Throws: CheckpointError at the end if a checkpoint of a run is not whole.
int run_inspect(const std::string& path, bool verifies);

/// Copies the model or the adapter of a checkpoint, or of the newest one of a run whose model or
/// adapter has its hashes, to a new folder that any Hugging Face program, or peft, opens; a model
/// in four bits, if a kind of them is given. The log names newer checkpoints that were passed over.
int run_export(const std::string& checkpoint, const std::string& destination,
               std::optional<FourBitKind> quantise = {});

struct MergeArguments {
  std::vector<std::string> paths;     ///< BASE ADAPTER DESTINATION, or BASE DESTINATION.
  bool undoes = false;                ///< Then MERGED DESTINATION.
  std::vector<std::string> adapters;  ///< That are combined.
  std::vector<std::string> models;    ///< That are mixed, instead: then DESTINATION.
  std::vector<double> weights;        ///< [adapter], or [model]
  std::optional<CombineOptions::Kind> kind;
  std::optional<double> density;
  std::optional<CombineOptions::Majority> majority;
  std::optional<uint64_t> seed;
  std::optional<MergeBase> base;
  bool writes_adapter = false;  ///< Instead of a model.
};

/// Adds adapters to their base, and writes the model that results, or the adapter that they make
/// together. Or undoes that, and writes the base of a merged model; or mixes models.
int run_merge(const MergeArguments& arguments);

/// Trains. Collective: under srun or mpirun, every rank.
int run_train(const std::string& config_path, const std::vector<std::string>& overrides);

struct EvaluationArguments {
  std::string config_path;
  std::vector<std::string> overrides;            ///< key.path=value.
  WeightsChoice weights = WeightsChoice::kAuto;  ///< The base, if an override names weights.
};

/// Measures the loss on the hold-outs of a configuration; the first line says of which weights.
/// Collective, as run_train.
int run_eval(const EvaluationArguments& arguments);

struct GenerateOptions {
  std::string source;   ///< A model folder, or a configuration file.
  std::string adapter;  ///< The folder of an adapter; empty: the run's, or none.
  WeightsChoice weights = WeightsChoice::kAuto;  ///< Of the run of a configuration file.
  std::vector<std::vector<int64_t>> prompts;     ///< [prompt][token]
  int num_answers = 1;                           ///< To each prompt.
  GenerationOptions generation;
  int threads = 0;  ///< 0: chosen.
  ModelOptions::Dtype dtype = ModelOptions::Dtype::kAuto;
};

/// Continues prompts of token ids, and prints the new ids, an answer a line, in the order of the
/// prompts. Collective, as run_train.
int run_generate(const GenerateOptions& options);

}  // namespace temper
