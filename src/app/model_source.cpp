// SPDX-License-Identifier: Apache-2.0
#include "app/model_source.h"

#include <filesystem>
#include <utility>

#include "checkpoint/peft/adapter_folder.h"
#include "core/concat.h"
#include "core/error.h"
#include "core/log.h"

namespace temper {
namespace {

bool is_model(const ModelSource& source) { return std::filesystem::is_directory(source.path); }

}  // namespace

RunConfig config_of(const ModelSource& source) {
  RunConfig config;
  if (is_model(source)) {
    config.model.path = source.path;
  } else {
    config = load_run_config(source.path, {});
  }
  if (!source.adapter.empty()) {
    config.method =
        AdapterFolder(source.adapter, ModelFolder(config.model.path, WeightForms::kAny)).options();
    config.method.start = source.adapter;
  }
  config.model.dtype = source.dtype;
  config.train.threads = source.threads;
  return config;
}

// What a run's configuration means depends on how far the run has come.
RunConfig with_chosen_weights(const ModelSource& source, const RunConfig& config,
                              Communicator& ranks) {
  const bool has_run = !is_model(source) && source.adapter.empty();
  if (!has_run && source.weights != WeightsChoice::kAuto) {
    throw ConfigError(concat("--weights has no effect: ", source.path,
                             is_model(source) ? " is a model's folder" : " is used with --adapter"),
                      "leave it out");
  }
  if (!has_run) return config;
  ChosenWeights chosen = choose_weights(config, source.weights, ranks);
  log_event(chosen.text);
  return std::move(chosen.config);
}

}  // namespace temper
