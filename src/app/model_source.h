// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "app/chosen_weights.h"
#include "comm/communicator.h"
#include "config/model_options.h"
#include "config/run_config.h"

namespace temper {

/// The model that a verb is given on the command line, for tokens of the user's own.
struct ModelSource {
  std::string path;     ///< A model folder, or a configuration file.
  std::string adapter;  ///< The folder of an adapter; empty: the run's, or none.
  WeightsChoice weights = WeightsChoice::kAuto;  ///< Of the run of a configuration file.
  int threads = 0;                               ///< 0: chosen.
  ModelOptions::Dtype dtype = ModelOptions::Dtype::kAuto;
};

/// A configuration that means this model: for a folder, everything else has its default. Local.
/// Throws: ConfigError; ModelError if the adapter is not one of this model.
RunConfig config_of(const ModelSource& source);

/// The same for the weights that a run has come to, which the log names.
/// Collective. Throws: as choose_weights; ConfigError if there is no run to choose from.
RunConfig with_chosen_weights(const ModelSource& source, const RunConfig& config,
                              Communicator& ranks);

}  // namespace temper
