// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "model/model_config.h"
#include "model/unit_layout.h"

namespace temper {

/// The units that a decoder computes with, and who does.
///
/// The first are those of the embedding, the blocks and the head, one for each; then come those of
/// experts, a few of one block each. Where one of these is trained in part, it has what is frozen
/// there, and a unit behind them has the rest.
struct DecoderUnits {
  std::vector<UnitLayout> layouts;
  std::vector<int> users;  ///< [layout], the place among the first of who computes with it.

  /// The lowest user of what is trained; so many as there are users if nothing is.
  int lowest_trained() const;
};

/// Each computes with its own, and a block with its experts'.
DecoderUnits undivided(std::vector<UnitLayout> units);

/// The units of a decoder, in the order in which they compute: `embed`, `layers.0` …, `head`. Then
/// those of experts, if each has matrices of its own in the files: `layers.0.experts.0` …, each as
/// many experts of a block as have at most `most_in_unit` elements, but one at least.
///
/// In each unit the matrices come first, then the vectors, so that the matrices stay aligned.
std::vector<UnitLayout> decoder_units(const ModelConfig& config);

}  // namespace temper
