// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "data/micro_batch.h"
#include "model/packed_batch.h"

namespace temper {

/// The micro-batch as tensors on the device, and what the host knows of it. The host does not wait
/// for the device.
PackedBatch to_packed_batch(const MicroBatch& micro_batch, at::Device device);

/// How many positions carry a target.
int64_t count_targets(const PackedBatch& batch);

}  // namespace temper
