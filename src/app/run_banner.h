// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "app/loaded_model.h"
#include "app/run_inputs.h"
#include "checkpoint/run_state.h"
#include "train/run_timing.h"

namespace temper {

/// A run before its next step.
struct RunToBegin {
  const RunConfig& config;
  const LoadedModel& model;
  const TrainingPlan& plan;
  const std::vector<SourceUse>& mixture;
  JobShape shape;
};

/// What the log says of it, line by line.
std::vector<std::string> banner_of(const RunToBegin& run);

}  // namespace temper
