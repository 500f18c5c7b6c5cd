// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include "core/range.h"
#include "model/unit_layout.h"
#include "zero/shard_layout.h"

namespace temper {

/// What one rank keeps of one unit from step to step.
///
/// All tensors are flat. `kept` is this rank's block, or the whole padded buffer at stage 0. The
/// tail beyond the unit's last element is padding: never read, whatever it holds.
struct UnitState {
  UnitLayout unit;
  ShardLayout shards;
  Range kept;                ///< Elements of the padded unit that the tensors below cover.
  Range owned;               ///< The elements that this rank alone writes to files: no padding.
  at::Tensor master;         ///< [kept] fp32 weights; undefined where frozen, as the next three.
  at::Tensor first_moment;   ///< [kept] fp32.
  at::Tensor second_moment;  ///< [kept] fp32.
  at::Tensor gradient;       ///< [kept] fp32, or [padded] where whole gradients are added up.
  at::Tensor weights;        ///< Compute dtype: [kept] at stage 3, else [padded]. May alias master.

  /// This rank's part of `weights`. Shapes: [kept].
  at::Tensor kept_weights() const {
    const bool is_whole = weights.numel() == shards.padded_size();
    return is_whole ? weights.narrow(0, kept.begin, kept.size()) : weights;
  }

  /// What is filled from files: the master weights, or those of a frozen unit. Shapes: [kept].
  at::Tensor loaded_weights() const { return master.defined() ? master : kept_weights(); }
};

}  // namespace temper
