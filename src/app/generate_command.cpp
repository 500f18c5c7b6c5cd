// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <filesystem>
#include <utility>

#include "app/commands.h"
#include "app/ending.h"
#include "app/loaded_model.h"
#include "core/concat.h"
#include "core/error.h"
#include "core/log.h"
#include "train/generation.h"

namespace temper {
namespace {

bool is_model(const GenerateOptions& options) {
  return std::filesystem::is_directory(options.source);
}

// A model folder needs no configuration: everything else has its default.
RunConfig config_of(const GenerateOptions& options) {
  RunConfig config;
  if (is_model(options)) {
    config.model.path = options.source;
  } else {
    config = load_run_config(options.source, {});
  }
  if (!options.adapter.empty()) {
    config.method =
        AdapterFolder(options.adapter, ModelFolder(config.model.path, WeightForms::kAny)).options();
    config.method.start = options.adapter;
  }
  config.model.dtype = options.dtype;
  config.train.threads = options.threads;
  return config;
}

// What a run's configuration means depends on how far the run has come.
RunConfig with_chosen_weights(const GenerateOptions& options, const RunConfig& config,
                              Communicator& ranks) {
  const bool has_run = !is_model(options) && options.adapter.empty();
  if (!has_run && options.weights != WeightsChoice::kAuto) {
    throw ConfigError(
        concat("--weights has no effect: ", options.source,
               is_model(options) ? " is a model's folder" : " is used with --adapter"),
        "leave it out");
  }
  if (!has_run) return config;
  ChosenWeights chosen = choose_weights(config, options.weights, ranks);
  log_event(chosen.text);
  return std::move(chosen.config);
}

void print_tokens(const std::vector<int64_t>& tokens) {
  for (size_t k = 0; k < tokens.size(); ++k) {
    std::printf(k == 0 ? "%lld" : ",%lld", static_cast<long long>(tokens[k]));
  }
  std::printf("\n");
  std::fflush(stdout);
}

}  // namespace

int run_generate(const GenerateOptions& options) {
  return run_under_mpi([&](const MpiSession& session) {
    const RunConfig start = config_of(options);
    auto ranks = open_ranks(session, start);
    const RunConfig config = with_chosen_weights(options, start, *ranks);
    LoadedModel model(session, std::move(ranks), config, ModelOpening::Use::kGeneration);
    for (const std::vector<int64_t>& prompt : options.prompts) {
      require_usable(prompt, options.generation, model.folder().config(),
                     config.method.num_virtual_tokens());
    }
    model.load_start();
    for (const std::vector<int64_t>& prompt : options.prompts) {
      const std::vector<int64_t> answer =
          generate(*model.engine, prompt, options.generation, model.ranks->device());
      if (session.rank() == 0) print_tokens(answer);
    }
    return static_cast<int>(ExitCode::kFinished);
  });
}

}  // namespace temper
