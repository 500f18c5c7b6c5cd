// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace temper {

/// How several adapters become one: the same to each of their tensors.
/// Source: Yadav et al., "TIES-Merging", 2023; Yu et al., "Language models are super Mario" (DARE),
///   2024; as peft 0.21, utils/merge_utils.py.
struct CombineOptions {
  enum class Kind {
    kLinear,  ///< The weighted sum.
    kTies,    ///< Of the largest numbers of each, those whose sign is the majority's: their mean.
    kDareLinear,  ///< The weighted sum of random numbers of each, the more for those left out.
    kDareTies,    ///< The same random numbers, as kTies goes on.
  };
  /// Whose sign counts.
  enum class Majority {
    kTotal,      ///< That of the sum.
    kFrequency,  ///< That which more of them have.
  };

  Kind kind = Kind::kLinear;
  double density = 1.0;  ///< The share of numbers that is kept, in (0, 1]; not for kLinear.
  Majority majority = Majority::kTotal;
  uint64_t seed = 1;  ///< Of the random numbers.

  bool has_density() const { return kind != Kind::kLinear; }
  bool has_majority() const { return kind == Kind::kTies || kind == Kind::kDareTies; }
  bool is_random() const { return kind == Kind::kDareLinear || kind == Kind::kDareTies; }
};

/// "linear", "ties", "dare_linear", "dare_ties".
std::string name_of(CombineOptions::Kind kind);

/// The tensor of the combined adapter. Element i of adapter k is kept, where that is random, if
/// random_uniform(random_key(seed, name), k * n + i) is below the density.
/// Shapes: tensors [adapter] of one shape of n elements, fp32; weights [adapter].
at::Tensor combine(const std::vector<at::Tensor>& tensors, const std::vector<double>& weights,
                   const CombineOptions& options, std::string_view name);

}  // namespace temper
