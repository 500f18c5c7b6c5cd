// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <span>
#include <vector>

#include "checkpoint/unit_files.h"
#include "zero/unit_store.h"

namespace temper {

/// What this rank writes into a checkpoint, on the host. The copy is used again from save to save.
class HostCopy {
 public:
  /// Copies this rank's own slices: master weights and moments.
  void take(const UnitStore& store);

  /// The same for a store that rests until all is written: what lies on the host is not copied.
  void borrow(const UnitStore& store);

  /// What a unit file holds of this rank, in fp32. Shapes: [owned.size()] of the unit.
  std::span<const float> slice(const UnitFile& file) const;

 private:
  template <typename Hold>
  void hold_each(const UnitStore& store, Hold hold);

  std::array<std::vector<at::Tensor>, 3> copies_;  // [master, moments][unit]
};

}  // namespace temper
