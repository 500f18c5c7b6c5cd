// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>

#include "core/range.h"
#include "optim/adamw.h"
#include "zero/unit_form.h"

namespace temper {

at::ScalarType scalar_type_of(MomentDtype dtype);

/// What is kept of a trained element for the update, beside its weight.
struct UpdateForm {
  MomentDtype moments = MomentDtype::kFloat32;
  int num_copies = 0;  ///< Of the weights, in fp32: where they began, their mean.
};

/// Bytes that a rank keeps of `num_kept` elements of a trained unit for the update: moments,
/// copies, and master weights where they are others than it computes with.
struct UpdateBytes {
  int64_t numbers = 0;  ///< What can be offloaded.
  int64_t scales = 0;
};
UpdateBytes update_bytes(const StoredUnit& unit, Range kept, const UpdateForm& form);

/// Whether of a unit only the master weights are kept: a rank rounds its part of what is computed
/// with each time that the unit is gathered.
bool rounds_for_use(const StoredUnit& unit, int stage, bool is_offloaded, int num_ranks);

}  // namespace temper
