// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "model/ops/dropout.h"
#include "model/ops/product.h"
#include "model/weight.h"

namespace temper {

/// What one of the matrices of DoRA is scaled by, while neither it nor what is added to it changes.
struct RowLengths {
  WeightVersion of_base, of_addition;
  at::Tensor base_squares;  ///< Of the rows of the matrix without what is added, [out] fp32.
  at::Tensor inverse;       ///< 1 / length of each row of the sum, [out] fp32.
};

/// What LoRA adds to one module of a product: scale * (x A^T) B^T to its columns. With DoRA the
/// columns are scaled then, each to the length `magnitude` of its row in the sum of both matrices.
struct LowRankPart {
  Weight up;                 ///< B [out, rank].
  int64_t first_row = 0;     ///< Of this module's A in `LowRank::down`.
  int64_t first_column = 0;  ///< Of this module's output in the product's.
  double scale = 1.0;
  Weight magnitude = {};  ///< [out]; undefined without DoRA.
  std::shared_ptr<RowLengths> lengths = std::make_shared<RowLengths>();  ///< With DoRA.
};

/// What LoRA adds to a product y = x W^T that may serve several modules: x is dropout(x) while it
/// trains.
///
/// The weights and their gradients are fp32. They are multiplied in the dtype of x, rounded to it
/// if that is bf16, as by peft under autocast; what is added is part of the product's own sum.
/// Source: Hu et al., "LoRA: low-rank adaptation of large language models", arXiv:2106.09685.
struct LowRank {
  Weight down;                     ///< The A of all parts on top of each other, [all ranks, in].
  std::vector<LowRankPart> parts;  ///< At least one, where `down` is defined.
  std::shared_ptr<const Dropout> dropout;  ///< Of x; one mask for all parts.
  uint64_t place = 0;                      ///< Tells this product's mask from others'.

  bool is_defined() const { return down.is_defined(); }

  /// Whether some part has a magnitude; they have one or none of them does.
  bool has_magnitude() const { return is_defined() && parts.front().magnitude.is_defined(); }
};

/// y = x W^T + keep * y and what LoRA adds. Returns scale * x A^T of each part, which the backward
/// pass needs.
/// Shapes: y [T, out], x [T, in]; returns [T, all ranks] in the dtype of x.
at::Tensor low_rank_product(at::Tensor y, const at::Tensor& x, const Weight& matrix,
                            const LowRank& low_rank, float keep);

/// Writes the gradients of the low-rank weights. Returns that of x.
/// Shapes: gradient [T, out], x [T, in], projected as `low_rank_product` returned it.
at::Tensor low_rank_backward(const at::Tensor& gradient, const at::Tensor& x,
                             const at::Tensor& projected, const Weight& matrix,
                             const LowRank& low_rank);

/// What the forward pass of DoRA leaves for its backward pass.
struct DecomposedPass {
  at::Tensor projected;  ///< scale * x A^T of each part [T, all ranks].
  at::Tensor unscaled;   ///< dropout(x) times the sum of both matrices [T, out].
};

/// x W^T with what DoRA makes of it: row i of W + scale B A is scaled to the length magnitude[i].
/// Where x is dropped, what DoRA changes of the product is computed from dropout(x), as in peft.
/// Lengths are constants to the backward pass; they are computed once for each state of the
/// weights.
/// Shapes: x [T, in]; returns [T, out], and fills `pass`.
/// Source: Liu et al., "DoRA: weight-decomposed low-rank adaptation", arXiv:2402.09353,
/// section 4.3.
at::Tensor decomposed_product(const at::Tensor& x, const Weight& matrix, const LowRank& low_rank,
                              DecomposedPass& pass);

/// Writes the gradients of the low-rank weights and magnitudes. Returns that of x.
/// Shapes: gradient [T, out], x [T, in].
at::Tensor decomposed_backward(const at::Tensor& gradient, const at::Tensor& x,
                               const DecomposedPass& pass, const Weight& matrix,
                               const LowRank& low_rank);

/// The length of each row, by sums whose order depends on the shape alone.
/// Shapes: matrix [rows, columns] fp32; returns [rows].
at::Tensor row_norms(const at::Tensor& matrix);

}  // namespace temper
