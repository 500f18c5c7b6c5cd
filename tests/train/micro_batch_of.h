// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "core/targets.h"
#include "data/micro_batch.h"
#include "model/packed_batch.h"

namespace temper::testing {

/// The numbers of a batch, as a loader would have read them.
inline MicroBatch to_micro_batch(const PackedBatch& batch) {
  const auto numbers = [](const at::Tensor& tensor) {
    const auto* first = tensor.const_data_ptr<int64_t>();
    return std::vector<int64_t>(first, first + tensor.numel());
  };
  return {numbers(batch.tokens), numbers(batch.positions), numbers(batch.targets),
          batch.document_begins, batch.targets.ne(kNoTarget).sum().item<int64_t>()};
}

}  // namespace temper::testing
