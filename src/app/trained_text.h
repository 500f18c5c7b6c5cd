// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "config/run_config.h"
#include "model/trained_parameters.h"

namespace temper {

/// What of a model is trained: "41.3 M of 134.5 M parameters, from layers.20 on".
std::string describe_trained(const DecoderUnits& units);

/// Each group of a configuration with what is in it: "norms: 61 tensors, 35.1 k parameters,
/// learning_rate 0.001, weight_decay 0".
std::vector<std::string> describe_groups(const RunConfig& config,
                                         const TrainedParameters& parameters);

}  // namespace temper
