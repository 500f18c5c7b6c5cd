// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/range.h"
#include "model/quantised/dynamic_map.h"
#include "model/unit_layout.h"
#include "zero/state_file.h"

namespace temper {

/// Where the scales of what a rank keeps of one tensor lie: one for each of its blocks of 256
/// elements, counted from the start of the unit, or one for each element of a small tensor, whose
/// numbers they are.
struct ScaledPart {
  /// Tensors of fewer elements stay fp32, as in bitsandbytes.
  static constexpr int64_t kFewestElements = 4096;

  Range elements;  ///< Of the unit.
  int64_t first_scale = 0;
  bool has_blocks = true;

  int64_t num_scales() const;
};

/// Blocks end where a tensor ends, and shards where a block ends: no number depends on the ranks.
std::vector<ScaledPart> scaled_parts(const UnitLayout& unit, Range kept);

int64_t num_scales(const std::vector<ScaledPart>& parts);

/// By what a number is rounded up or down: a function of the run's seed, the unit, the step and the
/// element alone.
struct Rounding {
  uint64_t key = 0;
  std::array<uint32_t, 2> counter = {};  ///< The step, and which of the moments.
};

/// One number of each element that a rank keeps of a unit, its master weight or one of AdamW's
/// moments, in the dtype that it is kept in, in memory or in a file. A view.
struct KeptNumbers {
  at::Tensor numbers;      ///< [kept] fp32, bf16, or 8-bit codes of `sign`'s map.
  Range kept;              ///< Of the unit.
  at::Tensor scales = {};  ///< Of codes.
  std::shared_ptr<const std::vector<ScaledPart>> parts =
      {};                           ///< Of codes; may have more than kept.
  MapSign sign = MapSign::kSigned;  ///< Of codes.
  const StateFile* file = nullptr;  ///< That `numbers` lie in, if they do.

  /// Whether `numbers` can be used as they are.
  bool is_plain() const { return file == nullptr && numbers.scalar_type() == at::kFloat; }

  /// What of it `elements` are.
  KeptNumbers narrow(Range elements) const;

  /// Reads elements on the host as fp32. Shapes: out [elements.size()].
  void read(Range elements, std::span<float> out) const;

  /// Writes elements that begin where a block or a tensor does, and end so. What is kept in bf16
  /// is rounded to the nearest without a `rounding`. Shapes: values [elements.size()].
  void write(Range elements, std::span<const float> values,
             const Rounding* rounding = nullptr) const;

  /// Gives memory back that elements of a file have taken.
  void release(Range elements) const;

 private:
  template <typename Visit>
  void for_each_block(Range elements, Visit visit) const;
  void decode(Range elements, std::span<float> out) const;
  void encode(Range elements, std::span<const float> values) const;
};

}  // namespace temper
