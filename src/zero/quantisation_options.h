// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "model/quantised/four_bit_format.h"

namespace temper {

/// How frozen matrices are kept in four bits an element.
struct QuantisationOptions {
  FourBitKind kind = FourBitKind::kNf4;
  bool is_double = true;  ///< The blocks' scales are quantised themselves.

  friend bool operator==(const QuantisationOptions&, const QuantisationOptions&) = default;
};

}  // namespace temper
