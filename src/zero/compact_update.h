// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "optim/adamw.h"
#include "zero/kept_numbers.h"

namespace temper {

/// The moments of a unit, neither of which is fp32.
struct CompactMoments {
  KeptNumbers first, second;
  uint64_t key = 0;  ///< Of the unit, for rounding by chance.
};

/// What one step does to a tensor.
struct AdamWRule {
  const AdamWOptions& options;
  AdamWStep step;
};

/// One AdamW step of elements of one tensor whose moments are kept in fewer bits: each piece's
/// moments become fp32, are updated, and are rounded again. They are used before they are rounded.
///
/// The same bits however the unit is cut at multiples of 4096 elements, and on any number of
/// threads.
/// Shapes: parameters, gradients [elements.size()] fp32, contiguous, on the host.
void update_compactly(const CompactMoments& moments, Range elements, at::Tensor parameters,
                      const at::Tensor& gradients, const AdamWRule& rule);

}  // namespace temper
