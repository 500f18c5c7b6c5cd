// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "core/range.h"
#include "zero/four_bit_unit.h"
#include "zero/shard_layout.h"
#include "zero/unit_form.h"

namespace temper {

/// What one rank keeps of one unit from step to step.
///
/// All tensors are flat. `kept` is this rank's block, or the whole padded buffer at stage 0. The
/// tail beyond the unit's last element is padding: never read, whatever it holds. In four bits
/// `kept` are elements of the vectors: of the matrices each rank has its slice at every stage.
struct UnitState {
  UnitLayout unit;
  UnitForm form;
  ShardLayout shards;
  Range kept;              ///< Elements of the padded unit that the tensors below cover.
  Range owned;             ///< The elements that this rank alone writes to files: no padding.
  at::Tensor master = {};  ///< [kept] fp32 weights; undefined where frozen, as the next three.
  at::Tensor first_moment = {};   ///< [kept] fp32.
  at::Tensor second_moment = {};  ///< [kept] fp32.
  at::Tensor gradient = {};       ///< [kept] fp32, or [padded] where whole gradients are added up.
  at::Tensor weights = {};  ///< Compute dtype: [kept] at stage 3, else [padded]. May alias master.
  Range part = {};          ///< This rank's part of whole `weights`.
  std::optional<FourBitUnit> four_bit = {};  ///< `weights` are its slice or all slices, in bytes.

  /// This rank's part of `weights`. Shapes: [kept], or a slice in bytes.
  at::Tensor kept_weights() const {
    const bool is_whole = weights.numel() > part.size();
    return is_whole ? weights.narrow(0, part.begin, part.size()) : weights;
  }

  /// What is filled from files: the master weights, or those of a frozen unit. Shapes: [kept].
  at::Tensor loaded_weights() const {
    if (master.defined()) return master;
    return four_bit ? four_bit->vectors(kept_weights()) : kept_weights();
  }
};

}  // namespace temper
