// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "app/run_inputs.h"
#include "config/run_config.h"
#include "model/model_config.h"

namespace temper {

/// What advice on a run depends on.
struct AdviceFacts {
  const RunConfig& config;
  const OpenedModel& model;
  const TrainingPlan& plan;
};

/// What of a run looks like a common mistake, a line each: figure, bound and reason, as
/// config/warnings.h has them, without what the configuration silences. Reads a few documents and
/// the model's chat templates. Local. Throws: DataError, ModelError.
std::vector<std::string> find_warnings(const AdviceFacts& facts);

}  // namespace temper
