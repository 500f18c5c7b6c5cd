// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "config/run_config.h"
#include "model/trained_parameters.h"

namespace temper {

/// What of a model is trained: "41.3 M of 134.5 M parameters, from layers.20 on".
std::string describe_trained(const DecoderUnits& units);

/// The learning rates by depth: "learning_rate 0.0001 at the head, 9e-05 in layers.29 and so
/// on down to 3.8e-06 at the embedding".
std::string describe_depths(const RunConfig& config, const ModelConfig& model);

/// Each group of a configuration with what is in it: "norms: 61 tensors, 35.1 k parameters,
/// learning_rate 0.001, weight_decay 0".
std::vector<std::string> describe_groups(const RunConfig& config,
                                         const TrainedParameters& parameters);

}  // namespace temper
