// SPDX-License-Identifier: Apache-2.0
#include "train/batch.h"

#include <ATen/ATen.h>

#include "core/targets.h"

namespace temper {

PackedBatch to_packed_batch(const MicroBatch& micro_batch, at::Device device) {
  const auto to_tensor = [device](const std::vector<int64_t>& numbers) {
    return at::tensor(numbers, at::kLong).to(device);
  };
  return {to_tensor(micro_batch.tokens), to_tensor(micro_batch.positions),
          to_tensor(micro_batch.targets), micro_batch.document_begins};
}

int64_t count_targets(const PackedBatch& batch) {
  return batch.targets.ne(kNoTarget).sum().item<int64_t>();
}

}  // namespace temper
