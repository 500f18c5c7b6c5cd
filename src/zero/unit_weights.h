// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

namespace temper {

/// Where the engine gets the flat weights of a unit from, to compute with.
///
/// Collective: every rank makes the same calls in the same order.
class UnitWeights {
 public:
  virtual ~UnitWeights() = default;

  /// Begins to gather a unit, if that is wanted and it is not here already.
  virtual void prefetch(int unit) = 0;

  /// The unit's flat weights, whole. Shapes: [num_elements or more], compute dtype.
  virtual at::Tensor gather(int unit) = 0;

  /// The gathered weights may be dropped.
  virtual void release(int unit) = 0;
};

}  // namespace temper
