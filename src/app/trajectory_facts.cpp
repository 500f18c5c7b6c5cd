// SPDX-License-Identifier: Apache-2.0
#include "app/trajectory_facts.h"

#include "app/loaded_model.h"

namespace temper {

TrajectoryFacts trajectory_facts(const RunConfig& config, const ModelFolder& model,
                                 const std::vector<const TokenShard*>& shards, int64_t num_steps,
                                 int world_size) {
  TrajectoryFacts facts{.model_fingerprint = model.fingerprint(),
                        .num_steps = num_steps,
                        .compute_dtype = compute_dtype_of(config.model),
                        .world_size = world_size};
  if (const auto start = open_start(config.method, model)) {
    facts.start_fingerprint = start->fingerprint();
  }
  for (const TokenShard* shard : shards) {
    facts.data_fingerprints.push_back(shard->header().fingerprint);
  }
  return facts;
}

}  // namespace temper
