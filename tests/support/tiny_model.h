// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "model/model_config.h"
#include "model/packed_batch.h"
#include "zero/unit_store.h"

namespace temper::testing {

/// A decoder small enough to train in milliseconds, with sizes that no shard divides evenly.
ModelConfig tiny_config(bool has_tied_head);

/// The same with experts in two of three blocks, two experts a unit, and the loss that wants them
/// chosen alike.
ModelConfig tiny_config_with_experts();

/// Fills the first `num_units` units, or all, with numbers that depend on their place alone, then
/// publishes them. Frozen ones, too; four bits are quantised meanwhile.
void fill_weights(UnitStore& store, std::optional<int> num_units = {});

/// Micro-batch `index` of an endless deterministic sequence: documents of unequal lengths, some
/// without a single target.
PackedBatch tiny_batch(const ModelConfig& config, int64_t index, at::Device device = at::kCPU);

}  // namespace temper::testing
