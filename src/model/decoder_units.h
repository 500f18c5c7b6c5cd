// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "model/model_config.h"
#include "model/unit_layout.h"

namespace temper {

/// The units of a decoder, in the order in which they compute: `embed`, `layers.0` …, `head`.
///
/// In each unit the matrices come first, then the vectors, so that the matrices stay aligned.
std::vector<UnitLayout> decoder_units(const ModelConfig& config);

}  // namespace temper
