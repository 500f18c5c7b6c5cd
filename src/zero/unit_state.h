// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>
#include <vector>

#include "core/range.h"
#include "zero/four_bit_unit.h"
#include "zero/kept_numbers.h"
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
  Range kept;                    ///< Elements of the padded unit that the tensors below cover.
  Range owned;                   ///< The elements that this rank alone writes to files: no padding.
  at::Tensor master = {};        ///< [kept] fp32 weights; undefined where frozen, as the next two.
  at::Tensor first_moment = {};  ///< [kept] fp32, or fewer bits: see `first`.
  at::Tensor second_moment = {};  ///< [kept], the same.
  at::Tensor start = {};          ///< [kept] fp32, the weights that the run began with; or none.
  at::Tensor mean = {};           ///< [kept] fp32, the moving mean of `master`; or none.
  /// [kept] fp32, or [padded] where whole gradients are added up. Undefined until a step has one.
  at::Tensor gradient = {};
  /// Compute dtype: [kept] at stage 3, else [padded]. May alias `master`; undefined where that is
  /// rounded for each use.
  at::Tensor weights = {};
  Range part = {};                           ///< This rank's part of whole `weights`.
  std::optional<FourBitUnit> four_bit = {};  ///< `weights` are its slice or all slices, in bytes.
  at::Tensor first_scales = {}, second_scales = {};            ///< Of moments in 8 bits.
  std::shared_ptr<const std::vector<ScaledPart>> scaled = {};  ///< Where these lie.
  const StateFile* file = nullptr;  ///< What some of the tensors lie in, if they do.
  int64_t version = 0;              ///< Of `weights`: grows whenever they change.

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

  /// The same, wherever it lies.
  KeptNumbers loaded() const { return numbers_of(loaded_weights()); }

  /// What is kept of each element, in whichever form. Defined where the tensors are.
  KeptNumbers masters() const { return numbers_of(master); }
  KeptNumbers means() const { return numbers_of(mean); }
  KeptNumbers starts() const { return numbers_of(start); }
  KeptNumbers first() const { return moment(first_moment, first_scales, MapSign::kSigned); }
  KeptNumbers second() const { return moment(second_moment, second_scales, MapSign::kUnsigned); }

 private:
  KeptNumbers numbers_of(const at::Tensor& tensor) const {
    return {.numbers = tensor,
            .kept = kept,
            .file = file != nullptr && file->has(tensor) ? file : nullptr};
  }
  KeptNumbers moment(const at::Tensor& tensor, const at::Tensor& scales, MapSign sign) const {
    KeptNumbers numbers = numbers_of(tensor);
    numbers.scales = scales;
    numbers.parts = scaled;
    numbers.sign = sign;
    return numbers;
  }
};

}  // namespace temper
