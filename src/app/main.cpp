// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "app/commands.h"
#include "app/ending.h"
#include "app/program_help.h"
#include "app/prompts.h"
#include "config/problem.h"
#include "core/error.h"
#include "zero/host_cache.h"

namespace {

using namespace temper;

constexpr const char* kVersion = "temper " TEMPER_VERSION;

// What the verb on the command line does.
using Verb = std::function<int()>;

void add_config(CLI::App& command, std::string& path, std::vector<std::string>& overrides) {
  command.add_option("config", path, "The run's YAML file")->required();
  command.add_option("overrides", overrides, "section.key=value, in place of the file's");
}

void add_check(CLI::App& app, Verb& verb) {
  const auto options = std::make_shared<CheckOptions>();
  CLI::App* command =
      app.add_subcommand("check", "Find every problem of a run, without MPI or GPU");
  add_config(*command, options->config_path, options->overrides);
  command->add_option("--ranks", options->num_ranks, "How many ranks the run will have")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  command->add_option("--nodes", options->num_nodes, "On how many nodes")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  command->add_option("--time", options->job_time, "What each job has, as sbatch takes it: 8:00:00")
      ->option_text("TIME");
  command->add_flag("--verify-data", options->verifies_data, "Hash every block of every shard");
  command->add_flag("--print-config", options->prints_config,
                    "Print the configuration with all defaults, and check nothing else");
  command->callback([options, &verb] { verb = [options] { return run_check(*options); }; });
}

void add_inspect(CLI::App& app, Verb& verb) {
  const auto path = std::make_shared<std::string>();
  const auto verifies = std::make_shared<bool>(false);
  CLI::App* command =
      app.add_subcommand("inspect", "Show a token shard, checkpoint, run or model folder");
  command->add_option("path", *path, "A file or folder; which kind it is is found out")->required();
  command->add_flag(
      "--verify", *verifies,
      "Compare every byte of a shard, a checkpoint or a run's checkpoints with its hash");
  command->callback([path, verifies, &verb] {
    verb = [path, verifies] { return run_inspect(*path, *verifies); };
  });
}

void add_export(CLI::App& app, Verb& verb) {
  const auto from = std::make_shared<std::string>();
  const auto to = std::make_shared<std::string>();
  CLI::App* command =
      app.add_subcommand("export", "Copy a checkpoint's model to a Hugging Face folder");
  command->add_option("checkpoint", *from, "A checkpoint, or a run: its newest one")->required();
  command->add_option("destination", *to, "A folder that does not exist yet")->required();
  const auto arguments = std::make_shared<ExportArguments>();
  const std::map<std::string, FourBitKind> kinds = {{"nf4", FourBitKind::kNf4},
                                                    {"fp4", FourBitKind::kFp4}};
  command->add_option("--quantize", arguments->quantise, "Store matrices in four bits: nf4 or fp4")
      ->transform(CLI::CheckedTransformer(kinds))
      ->option_text("KIND");
  const std::map<std::string, bool> ends = {{"add", true}, {"keep", false}};
  command
      ->add_option("--end-of-turn", arguments->adds_end_of_turn,
                   "add: the token that ends turns in the training data ends texts, too")
      ->transform(CLI::CheckedTransformer(ends))
      ->option_text("add|keep");
  command->add_option("--gguf", arguments->gguf, "Through launch/export-gguf, which lists types")
      ->option_text("TYPE");
  command->callback([=, &verb] { verb = [=] { return run_export(*from, *to, *arguments); }; });
}

// How several adapters become one.
void add_combination(CLI::App& command, MergeArguments& arguments) {
  using Kind = CombineOptions::Kind;
  using Majority = CombineOptions::Majority;
  const std::map<std::string, Kind> kinds = {{"linear", Kind::kLinear},
                                             {"ties", Kind::kTies},
                                             {"dare_linear", Kind::kDareLinear},
                                             {"dare_ties", Kind::kDareTies}};
  const std::map<std::string, Majority> majorities = {{"total", Majority::kTotal},
                                                      {"frequency", Majority::kFrequency}};
  command.add_option("--adapter", arguments.adapters, "An adapter; once for each")
      ->allow_extra_args(false)
      ->option_text("FOLDER");
  command.add_option("--model", arguments.models, "Instead a model whose weights are mixed in")
      ->allow_extra_args(false)
      ->option_text("FOLDER");
  command.add_option("--weight", arguments.weights, "Its weight, in the same order")
      ->allow_extra_args(false)
      ->option_text("NUMBER");
  command.add_option("--combine", arguments.kind, "linear (default), ties, dare_linear, dare_ties")
      ->transform(CLI::CheckedTransformer(kinds))
      ->option_text("HOW");
  command.add_option("--density", arguments.density, "The share of numbers to keep, in (0, 1]")
      ->option_text("NUMBER");
  command.add_option("--majority", arguments.majority, "Whose sign counts: total or frequency")
      ->transform(CLI::CheckedTransformer(majorities))
      ->option_text("BY");
  command.add_option("--seed", arguments.seed, "Of the random choice of dare_linear, dare_ties")
      ->option_text("NUMBER");
  command.add_flag("--as-adapter", arguments.writes_adapter,
                   "Write the combined adapter, not a model");
}

void add_merge(CLI::App& app, Verb& verb) {
  const auto arguments = std::make_shared<MergeArguments>();
  CLI::App* command = app.add_subcommand("merge", "Add LoRA adapters to their base, or undo that");
  command
      ->add_option(
          "paths", arguments->paths,
          "BASE ADAPTER DESTINATION; with --adapter BASE DESTINATION; with --model DESTINATION; "
          "with --undo MERGED DESTINATION. The destination does not exist yet")
      ->required();
  const std::map<std::string, MergeBase> bases = {{"dense", MergeBase::kDense},
                                                  {"dequantised", MergeBase::kDequantised}};
  command->add_option("--base", arguments->base, "dense, or dequantised: as QLoRA saw it")
      ->transform(CLI::CheckedTransformer(bases))
      ->option_text("FORM");
  command->add_flag("--undo", arguments->undoes, "Restore the base of a folder that merge wrote");
  add_combination(*command, *arguments);
  command->callback([=, &verb] { verb = [=] { return run_merge(*arguments); }; });
}

void add_train(CLI::App& app, Verb& verb) {
  const auto path = std::make_shared<std::string>();
  const auto overrides = std::make_shared<std::vector<std::string>>();
  CLI::App* command = app.add_subcommand("train", "Train, under srun or mpirun");
  add_config(*command, *path, *overrides);
  command->callback([=, &verb] { verb = [=] { return run_train(*path, *overrides); }; });
}

void add_find_rate(CLI::App& app, Verb& verb) {
  const auto options = std::make_shared<RateOptions>();
  CLI::App* command =
      app.add_subcommand("find-rate", "Sweep learning rates and propose one, under srun or mpirun");
  add_config(*command, options->config_path, options->overrides);
  command->add_option("--steps", options->num_steps, "Of the sweep, at rising rates")
      ->check(CLI::Range(2, 10'000))
      ->capture_default_str();
  command->add_option("--from", options->lowest, "The first rate (default: by method)")
      ->check(CLI::PositiveNumber);
  command->add_option("--to", options->highest, "The last one")->check(CLI::PositiveNumber);
  command->add_option("--svg", options->svg, "Also draw it")->option_text("FILE");
  command->callback([=, &verb] { verb = [=] { return run_find_rate(*options); }; });
}

void add_recipe(CLI::App& app, Verb& verb) {
  const auto options = std::make_shared<RecipeOptions>();
  CLI::App* command =
      app.add_subcommand("recipe", "Propose a configuration for a shard and a model, and why");
  command->add_option("shard", options->shard, "Of what is to be trained on")->required();
  command->add_option("model", options->model, "Hugging Face model folder")->required();
  command->add_option("--ranks", options->num_ranks, "How many ranks the run will have")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  command
      ->add_option("--memory", options->memory_gigabytes,
                   "GB that a rank may take (default: this machine's, over the ranks)")
      ->check(CLI::PositiveNumber);
  command->add_option("--time", options->hours, "Hours that training may take")
      ->check(CLI::PositiveNumber);
  command->add_option("--output", options->output, "Where it goes")
      ->option_text("FILE")
      ->capture_default_str();
  command->callback([=, &verb] { verb = [=] { return run_recipe(*options); }; });
}

void add_weights(CLI::App& command, WeightsChoice& choice) {
  const std::map<std::string, WeightsChoice> choices = {{"auto", WeightsChoice::kAuto},
                                                        {"base", WeightsChoice::kBase},
                                                        {"newest", WeightsChoice::kNewest},
                                                        {"final", WeightsChoice::kFinal}};
  command
      .add_option("--weights", choice,
                  "Of the run: its newest checkpoint, final, base, or auto: the first of them")
      ->transform(CLI::CheckedTransformer(choices))
      ->option_text("WHICH");
}

void add_eval(CLI::App& app, Verb& verb) {
  const auto arguments = std::make_shared<EvaluationArguments>();
  CLI::App* command =
      app.add_subcommand("eval", "Measure the loss on the hold-outs, under srun or mpirun");
  add_config(*command, arguments->config_path, arguments->overrides);
  add_weights(*command, arguments->weights);
  command->callback([=, &verb] { verb = [=] { return run_eval(*arguments); }; });
}

void add_model(CLI::App& command, ModelSource& model) {
  using Dtype = ModelOptions::Dtype;
  const std::map<std::string, Dtype> dtypes = {
      {"auto", Dtype::kAuto}, {"float32", Dtype::kFloat32}, {"bfloat16", Dtype::kBfloat16}};
  command.add_option("source", model.path, "A model folder, or a run's YAML file")->required();
  command.add_option("--adapter", model.adapter, "The folder of an adapter, as peft has it");
  add_weights(command, model.weights);
  command.add_option("--threads", model.threads, "0: all that this process may use")
      ->check(CLI::Range(0, 4096));
  command.add_option("--dtype", model.dtype, "auto (default), float32 or bfloat16")
      ->transform(CLI::CheckedTransformer(dtypes))
      ->option_text("DTYPE");
}

void add_output(CLI::App& command, std::string& path) {
  command
      .add_option("--output", path, "Where answers go; FILE.partial keeps them until all are there")
      ->option_text("FILE");
}

void add_score(CLI::App& app, Verb& verb) {
  const auto options = std::make_shared<ScoreOptions>();
  CLI::App* command = app.add_subcommand(
      "score", "Log-probabilities of continuations of token ids, under srun or mpirun");
  add_model(*command, options->model);
  command
      ->add_option("--requests", options->requests,
                   "JSON lines: {\"id\": any, \"context\": [ids], \"continuation\": [ids]}")
      ->required()
      ->option_text("FILE");
  add_output(*command, options->output);
  command->add_flag("--tokens", options->with_tokens, "Also each token's log-probability");
  command->callback([=, &verb] { verb = [=] { return run_score(*options); }; });
}

void add_generate(CLI::App& app, Verb& verb) {
  const auto options = std::make_shared<GenerateOptions>();
  const auto prompts = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand(
      "generate", "Continue prompts of token ids, under srun or mpirun or alone");
  add_model(*command, options->model);
  CLI::App* from = command->add_option_group("from")->require_option(1);
  from->add_option("--prompts", *prompts, "1,22,7 or a file with a prompt a line, or -");
  from->add_option("--requests", options->requests,
                   "JSON lines: {\"id\": any, \"prompt\": [ids], \"n\", \"max_tokens\", "
                   "\"temperature\", \"seed\", ...}; -: answered as they come")
      ->option_text("FILE");
  add_output(*command, options->output);
  GenerationOptions& generation = options->generation;
  command->add_option("--max-new-tokens", generation.max_new_tokens)
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  command->add_option("--temperature", generation.sampling.temperature, "0: greedy")
      ->check(CLI::Range(0.0, 100.0))
      ->capture_default_str();
  command->add_option("--top-p", generation.sampling.top_p)
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  command->add_option("--top-k", generation.sampling.top_k, "0: all tokens")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--min-p", generation.sampling.min_p, "Of the greatest probability")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  command
      ->add_option("--repetition-penalty", generation.sampling.repetition_penalty,
                   "Above 1: what was said is less probable")
      ->check(CLI::Range(0.01, 100.0))
      ->capture_default_str();
  command->add_option("--seed", generation.sampling.seed)->capture_default_str();
  command->add_option("--answers", options->num_answers, "To each prompt")
      ->check(CLI::Range(1, 10'000))
      ->capture_default_str();
  command->add_option("--stop", generation.stop_tokens, "Further tokens that end an answer: 2,7")
      ->delimiter(',')
      ->option_text("TOKENS");
  command->add_option("--at-once", options->at_once, "Answers that a rank is at, at most")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  command->callback([=, &verb] {
    verb = [=] {
      if (options->requests.empty()) options->prompts = read_prompts(*prompts);
      return run_generate(*options);
    };
  });
}

void add_tables(CLI::App& app, Verb& verb) {
  const auto section = std::make_shared<std::string>();
  const auto is_page = std::make_shared<bool>(false);
  CLI::App* options = app.add_subcommand("options", "Print the keys of a configuration");
  options->add_option("section", *section, "Only these: train, or train.max_steps");
  options->add_flag("--markdown", *is_page, "As configs/README.md has them");
  options->callback([=, &verb] { verb = [=] { return run_options(*section, *is_page); }; });
  CLI::App* schema =
      app.add_subcommand("schema", "Print the JSON Schema of configurations, for editors");
  schema->callback([&verb] { verb = run_schema; });
  const auto shell = std::make_shared<std::string>();
  CLI::App* completion =
      app.add_subcommand("completion", "Print what a shell completes this command line by");
  completion->add_option("shell", *shell, "Which one")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  completion->callback([=, &app, &verb] {
    verb = [=, &app] { return run_completion(*shell, help_of(app, kVersion)); };
  });
  const auto page = std::make_shared<std::string>("temper");
  CLI::App* man = app.add_subcommand("man", "Print a manual page, as man -l reads it");
  man->add_option("page", *page, "Of the command line, or of the configuration")
      ->check(CLI::IsMember({"temper", "temper-config"}))
      ->capture_default_str();
  man->callback(
      [=, &app, &verb] { verb = [=, &app] { return run_man(*page, help_of(app, kVersion)); }; });
}

// CLI11 itself says no more than that a verb is needed.
void require_known_verb(const CLI::App& app, const std::string& verb) {
  std::vector<std::string> verbs;
  for (const CLI::App* known : app.get_subcommands({})) verbs.push_back(known->get_name());
  if (verb.starts_with('-') || std::find(verbs.begin(), verbs.end(), verb) != verbs.end()) return;
  const std::string near = nearest_name(verb, verbs);
  throw ConfigError("there is no verb " + quote(verb),
                    (near.empty() ? "" : near + "; ") + "one of: " + joined(verbs));
}

int run(int argc, char** argv) {
  CLI::App app("temper fine-tunes language models on Slurm clusters.", "temper");
  app.set_version_flag("--version", kVersion);
  app.require_subcommand(1);
  app.footer("temper VERB --help tells more.");
  Verb verb;
  add_check(app, verb);
  add_train(app, verb);
  add_recipe(app, verb);
  add_find_rate(app, verb);
  add_eval(app, verb);
  add_score(app, verb);
  add_generate(app, verb);
  add_inspect(app, verb);
  add_export(app, verb);
  add_merge(app, verb);
  add_tables(app, verb);
  if (argc > 1) require_known_verb(app, argv[1]);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {  // --help and --version.
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    app.exit(error);
    return static_cast<int>(ExitCode::kConfiguration);
  }
  return verb();
}

}  // namespace

int main(int argc, char** argv) {
  temper::use_host_cache();
  end_process(run_alone([&] { return run(argc, argv); }));
}
