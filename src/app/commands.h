// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "app/chosen_weights.h"
#include "app/model_source.h"
#include "app/program_help.h"
#include "checkpoint/peft/merge.h"
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

struct ExportArguments {
  std::optional<FourBitKind> quantise;
  bool adds_end_of_turn = false;  ///< To the tokens that end a text, if turns end with others.
  std::string gguf;               ///< A type of GGUF, which is refused; empty: none.
};

/// Copies the model or the adapter of a checkpoint, or of the newest one of a run whose model or
/// adapter has its hashes, to a new folder that any Hugging Face program, or peft, opens; a model
/// in four bits, if a kind of them is given. Beside it go trainer_state.json and the losses on
/// hold-outs, where the run's metrics are there. The log names newer checkpoints that were passed
/// over, and what servers would not take.
int run_export(const std::string& checkpoint, const std::string& destination,
               const ExportArguments& arguments);

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

struct RateOptions {
  std::string config_path;
  std::vector<std::string> overrides;  ///< key.path=value.
  int64_t num_steps = 40;
  std::optional<double> lowest, highest;  ///< Rates; else around those usual for the method.
  std::string svg;                        ///< A file for the drawing; empty: none.
};

/// Trains a few steps at rising learning rates, prints loss against rate, and proposes one. Writes
/// nothing of the run. Collective, as run_train.
int run_find_rate(const RateOptions& options);

struct RecipeOptions {
  std::string shard;  ///< Or a pattern for a set of them.
  std::string model;  ///< A folder.
  int num_ranks = 1;
  double memory_gigabytes = 0.0;  ///< Of a rank; 0: what this machine has, over the ranks.
  double hours = 0.0;             ///< That training may take; 0: any.
  std::string output = "recipe.yaml";
};

/// Proposes a configuration for a shard and a model, says why, and writes it. Local.
int run_recipe(const RecipeOptions& options);

struct EvaluationArguments {
  std::string config_path;
  std::vector<std::string> overrides;            ///< key.path=value.
  WeightsChoice weights = WeightsChoice::kAuto;  ///< The base, if an override names weights.
};

/// Measures the loss on the hold-outs of a configuration; the first line says of which weights.
/// Collective, as run_train.
int run_eval(const EvaluationArguments& arguments);

inline constexpr const char* kStandardInput = "-";

struct GenerateOptions {
  ModelSource model;
  std::vector<std::vector<int64_t>> prompts;  ///< [prompt][token]
  /// Instead of prompts: a file, as read_prompt_requests takes it, or kStandardInput, on which they
  /// come as `RequestStream` takes them.
  std::string requests;
  std::string output;            ///< Of a file of requests: as that of ScoreOptions.
  int64_t at_once = 16;          ///< Answers that a rank is at, at most.
  int64_t num_answers = 1;       ///< To each prompt.
  GenerationOptions generation;  ///< Where a request does not say otherwise.
};

/// Continues prompts of token ids. To prompts it prints the new ids, an answer a line, in their
/// order; to a file of requests it writes JSON, and the same command goes on where a killed one
/// was. Collective, as run_train. Throws: ConfigError for a prompt that cannot be continued.
int run_generate(const GenerateOptions& options);

struct ScoreOptions {
  ModelSource model;
  std::string requests;      ///< A file, as read_score_requests takes it.
  std::string output;        ///< A file; empty: standard output, and nothing is kept.
  bool with_tokens = false;  ///< Also each token's log-probability.
};

/// Writes the log-probability of each request's continuation, and whether greedy decoding gives it.
/// The same command goes on where a killed one was. Collective, as run_train.
int run_score(const ScoreOptions& options);

/// Prints every key of a configuration with its type, default, range and unit; those of one
/// section, if one is named. Throws: ConfigError if there is no such section or key.
int run_options(const std::string& section, bool as_markdown);

/// Prints the JSON Schema of configurations.
int run_schema();

/// Prints what a shell reads to complete the command line: "bash", "zsh" or "fish".
int run_completion(const std::string& shell, const ProgramHelp& help);

/// Prints a manual page as `man -l` reads it: "temper", or "temper-config", of the keys.
int run_man(const std::string& page, const ProgramHelp& help);

}  // namespace temper
