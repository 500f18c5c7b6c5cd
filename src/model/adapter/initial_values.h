// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/range.h"

namespace temper {

/// How a tensor that is trained from scratch begins.
struct InitialValues {
  enum class Distribution {
    kZero,
    kUniform,        ///< Between -scale and scale.
    kNormal,         ///< With the standard deviation `scale`.
    kCopy,           ///< The base's tensor.
    kRows,           ///< Rows of it: those of `tokens`.
    kRowNorms,       ///< The length of each of its rows.
    kPrincipalDown,  ///< Of its principal parts: see `principal_parts`.
    kPrincipalUp,
    kLessPrincipalUp,  ///< Less than nothing by them.
  };
  Distribution distribution = Distribution::kZero;
  double scale = 0.0;
  std::vector<int64_t> tokens = {};
  std::string base = {};       ///< The name of the base's tensor, where it begins with that.
  int64_t num_iterations = 0;  ///< For principal parts found at random; 0: found exactly.

  bool is_drawn() const { return base.empty(); }
};

/// Fills elements `range` of the tensor `name`: each is a function of the seed, the name and its
/// place alone, so that any rank can draw any part. For those that are drawn.
/// Shapes: values [range.size()].
void fill_initial_values(const InitialValues& initial, uint64_t seed, std::string_view name,
                         Range range, std::span<float> values);

}  // namespace temper
