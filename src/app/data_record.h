// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "app/run_inputs.h"
#include "checkpoint/training_data.h"
#include "config/run_config.h"
#include "data/mixture.h"

namespace temper {

/// What a run is trained and evaluated on, as its checkpoints remember it. Local.
/// `holdouts` are those of the configuration.
TrainingData training_data_of(const RunConfig& config, const Mixture& mixture,
                              const HoldOutRows& holdouts);

}  // namespace temper
