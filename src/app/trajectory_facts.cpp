// SPDX-License-Identifier: Apache-2.0
#include "app/trajectory_facts.h"

namespace temper {

TrajectoryFacts trajectory_facts(const RunConfig& config, const OpenedModel& model,
                                 const TrainingPlan& plan, int world_size) {
  TrajectoryFacts facts{.model_fingerprint = model.folder.fingerprint(),
                        .num_steps = plan.num_steps,
                        .compute_dtype = compute_dtype_of(config.model),
                        .world_size = world_size,
                        .origin_trajectory = plan.origin.trajectory,
                        .origin_step = plan.origin.step};
  if (model.start) facts.start_fingerprint = model.start->fingerprint();
  for (const auto& source : plan.mixture.sources()) {
    facts.data_fingerprints.push_back(source->corpus().fingerprint());
  }
  return facts;
}

}  // namespace temper
