// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <c10/core/ScalarType.h>

#include <optional>
#include <vector>

#include "model/unit_layout.h"
#include "zero/quantisation_options.h"

namespace temper {

/// How a unit is kept, and whether it is trained.
struct UnitForm {
  at::ScalarType dtype = at::kFloat;  ///< What it is computed with.
  bool is_trained = true;             ///< Else it has no master weights, gradients or moments.
  std::optional<QuantisationOptions> four_bit = {};  ///< Of a frozen unit's matrices.
};

/// A unit as a store has it.
struct StoredUnit {
  UnitLayout layout;
  UnitForm form;
};

/// All in the same form, but for what is frozen.
std::vector<StoredUnit> in_form(const std::vector<UnitLayout>& units, const UnitForm& form = {});

/// The units of a decoder and then those of its adapter, for a model of that form. With an adapter
/// the decoder's own and what changes them are frozen, and all of the adapter is fp32. Four bits
/// are for matrices of blocks that are not divided.
std::vector<StoredUnit> stored_units(const std::vector<UnitLayout>& decoder,
                                     const std::vector<UnitLayout>& adapter, const UnitForm& form);

}  // namespace temper
