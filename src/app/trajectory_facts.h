// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "checkpoint/model_folder.h"
#include "config/trajectory.h"
#include "io/token_shard.h"

namespace temper {

/// What `trajectory_digest` needs beside the configuration. `shards` are those of data.train, in
/// its order.
TrajectoryFacts trajectory_facts(const RunConfig& config, const ModelFolder& model,
                                 const std::vector<const TokenShard*>& shards, int64_t num_steps,
                                 int world_size);

}  // namespace temper
