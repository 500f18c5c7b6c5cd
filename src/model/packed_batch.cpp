// SPDX-License-Identifier: Apache-2.0
#include "model/packed_batch.h"

#include <ATen/ATen.h>

#include "core/targets.h"
#include "model/on_device.h"

namespace temper {

int64_t largest_position(const PackedBatch& batch) {
  if (batch.facts) return batch.facts->largest_position;
  return batch.positions.numel() == 0 ? -1 : batch.positions.max().item<int64_t>();
}

at::Tensor rows_with_target(const PackedBatch& batch) {
  if (batch.facts) return on_device(batch.facts->target_rows, batch.targets.device());
  return at::nonzero(batch.targets.ne(kNoTarget)).squeeze(1);
}

}  // namespace temper
