// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <vector>

#include "model/branches.h"

namespace temper {

/// What the host knows of a batch whose tensors lie on a device, so that it need not wait for them.
struct BatchFacts {
  int64_t largest_position = 0;
  std::vector<int64_t> target_rows = {};  ///< Those that have a target, in ascending order.
  std::vector<int64_t> sources = {};      ///< [num_documents], which each is from; empty: unknown.
};

/// Documents laid end to end without padding; attention never crosses a document's border.
struct PackedBatch {
  at::Tensor tokens;                      ///< [T] int64.
  at::Tensor positions;                   ///< [T] int64; restart at 0 with each document.
  at::Tensor targets;                     ///< [T] int64; kNoTarget where a position has none.
  std::vector<int64_t> document_begins;   ///< [num_documents + 1], from 0 to T.
  std::optional<Branches> branches = {};  ///< Where documents fork; without a backward pass.
  std::optional<BatchFacts> facts = {};   ///< Else they are found in the tensors.
};

/// -1 without any.
int64_t largest_position(const PackedBatch& batch);

/// The rows with a target. Shapes: returns [n] int64, on the device of the batch.
at::Tensor rows_with_target(const PackedBatch& batch);

}  // namespace temper
