// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

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
    kLessPrincipalUp,  ///< The same with the other sign.
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

/// The values of a tensor that begins with one of the base.
/// Shapes: base [rows, columns] or [columns]; returns them flat, fp32.
at::Tensor values_from_base(const InitialValues& initial, const at::Tensor& base);

/// B and A such that scale * B A is the best approximation of a matrix of that rank.
/// Source: Meng et al., "PiSSA", arXiv:2404.02948; peft 0.21, tuners/lora (how the singular values
///   are shared).
struct PrincipalParts {
  at::Tensor up;    ///< [rows, rank] fp32.
  at::Tensor down;  ///< [rank, columns] fp32.
};

/// On one thread: the bits of a decomposition depend on their number.
/// Shapes: matrix [rows, columns]; rank at most the smaller of both.
PrincipalParts principal_parts(const at::Tensor& matrix, int64_t rank, double scale);

/// Nearly the same by `num_iterations` of subspace iteration, each two products with the matrix.
/// They take 4 rows columns rank operations each, where the exact decomposition takes about
/// 20 rows columns min(rows, columns); nothing larger than rank by rows or columns is decomposed.
/// Has the same bits for any number of threads.
/// Shapes: matrix [rows, columns]; sketch [min(rows, columns), rank] fp32, of normal numbers.
/// Source: Halko et al., arXiv:0909.4061, algorithms 4.4 and 5.1; torch 2.11, svd_lowrank, which
///   peft's pissa_niter calls (no columns of the sketch beyond the rank).
PrincipalParts nearly_principal_parts(const at::Tensor& matrix, const at::Tensor& sketch,
                                      int64_t num_iterations, double scale);

}  // namespace temper
