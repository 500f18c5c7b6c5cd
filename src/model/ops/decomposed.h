// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "model/ops/low_rank.h"
#include "model/weight.h"

namespace temper {

/// What the forward pass of DoRA leaves for its backward pass.
struct DecomposedPass {
  at::Tensor projected;                     ///< x A^T [T, all ranks] fp32.
  at::Tensor base;                          ///< dropout(x) W^T [T, out].
  std::vector<at::Tensor> inverse_lengths;  ///< Of each part, [out] fp32.
};

/// x W^T with what DoRA makes of it: row i of W + scale B A is scaled to the length magnitude[i].
/// Where x is dropped, what DoRA changes of the product is computed from dropout(x), as in peft.
/// Lengths are constants to the backward pass.
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

}  // namespace temper
