// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <filesystem>

#include "app/commands.h"
#include "app/ending.h"
#include "app/loaded_model.h"
#include "train/generation.h"

namespace temper {
namespace {

// A model folder needs no configuration: everything else has its default.
RunConfig config_of(const GenerateOptions& options) {
  RunConfig config;
  if (std::filesystem::is_directory(options.source)) {
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
    LoadedModel model(session, config_of(options), StorePurpose::kFrozen);
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
