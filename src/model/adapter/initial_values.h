// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "core/range.h"

namespace temper {

/// How a tensor that is trained from scratch begins.
struct InitialValues {
  enum class Distribution { kZero, kUniform, kNormal, kEmbeddings };
  Distribution distribution = Distribution::kZero;
  double scale = 0.0;  ///< Uniform: the bound on both sides; normal: the standard deviation.
  std::vector<int64_t> tokens = {};  ///< Embeddings: row i begins as that of token i of these.
};

/// Fills elements `range` of the tensor `name`: each is a function of the seed, the name and its
/// place alone, so that any rank can draw any part. Embeddings are not drawn: see `initialise`.
/// Shapes: values [range.size()].
void fill_initial_values(const InitialValues& initial, uint64_t seed, std::string_view name,
                         Range range, std::span<float> values);

}  // namespace temper
