// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "app/run_inputs.h"
#include "config/trajectory.h"

namespace temper {

/// What `trajectory_digest` needs beside the configuration.
TrajectoryFacts trajectory_facts(const RunConfig& config, const OpenedModel& model,
                                 const TrainingPlan& plan, int world_size);

}  // namespace temper
