// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <utility>
#include <vector>

#include "model/ops/low_rank.h"
#include "model/weight.h"

namespace temper {

struct LinearWeights {
  Weight matrix;     ///< [out, in]
  Weight bias;       ///< [out]; undefined where there is none.
  LowRank low_rank;  ///< Undefined where LoRA adds nothing.
};

/// What a product reads, and how its backward pass gets it: kept, or, where that is cheap beside
/// the product, computed again.
struct Activation {
  Activation(at::Tensor kept) : value(kept), again([kept] { return kept; }) {}
  Activation(at::Tensor now, std::function<at::Tensor()> compute_again)
      : value(std::move(now)), again(std::move(compute_again)) {}

  at::Tensor value;
  std::function<at::Tensor()> again;  ///< The same bits as `value`; may not capture it.
};

/// What `compute` returns, to be computed again in the backward pass instead of kept.
template <typename Compute>
Activation recomputed(Compute compute) {
  return {compute(), compute};
}

/// What the low-rank part of a product leaves for its backward pass: one of them, or neither.
struct LinearPass {
  at::Tensor projected;
  DecomposedPass decomposed;
};

/// onto + x W^T + b, and what LoRA adds, without a graph. `onto` may be undefined.
/// Shapes: onto [T, out], x [T, in]; returns [T, out], and fills `pass`.
at::Tensor linear_forward(const at::Tensor& onto, const at::Tensor& x, const LinearWeights& weights,
                          LinearPass& pass);

/// Writes the gradients of what is trained, and returns that of x.
/// Shapes: gradient [T, out], x [T, in], which is asked for only where it is needed.
at::Tensor linear_backward(const at::Tensor& gradient, const std::function<at::Tensor()>& x,
                           const LinearWeights& weights, const LinearPass& pass);

/// x W^T + b, and what LoRA adds. The backward pass writes the gradients of what is trained.
/// Shapes: x [T, in]; returns [T, out].
at::Tensor linear(const Activation& x, const LinearWeights& weights);

/// Modules whose outputs lie side by side, as one matrix where their weights do: where some of them
/// are trained, and others not, their weights are apart.
using SideBySide = std::vector<LinearWeights>;

/// What each makes of x, side by side. Shapes: x [T, in]; returns [T, sum of out].
at::Tensor side_by_side(const Activation& x, const SideBySide& modules);

/// residual + x W^T + b, and what LoRA adds: the product adds onto the residual. Shapes: residual
/// [T, out].
at::Tensor linear_onto(const at::Tensor& residual, const Activation& x,
                       const LinearWeights& weights);

}  // namespace temper
