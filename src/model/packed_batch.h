// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <vector>

#include "model/branches.h"

namespace temper {

/// Documents laid end to end without padding; attention never crosses a document's border.
struct PackedBatch {
  at::Tensor tokens;                      ///< [T] int64.
  at::Tensor positions;                   ///< [T] int64; restart at 0 with each document.
  at::Tensor targets;                     ///< [T] int64; kNoTarget where a position has none.
  std::vector<int64_t> document_begins;   ///< [num_documents + 1], from 0 to T.
  std::optional<Branches> branches = {};  ///< Where documents fork; without a backward pass.
};

}  // namespace temper
