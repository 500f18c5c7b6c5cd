// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <span>

#include "core/exact_sum.h"

namespace temper {

/// So many elements, counted from the start of a unit, are squared and added in one fixed order;
/// the sums of such blocks are then added exactly. Shards are multiples of it.
inline constexpr int64_t kNormBlock = 4096;

/// Adds the squares of `gradients` to `sum`, block by block.
///
/// The result does not depend on where shards are cut or on the number of threads. Not finite
/// where a gradient is not.
/// Shapes: gradients [n] fp32, contiguous, starting on a block's border.
/// Throws: std::invalid_argument.
void add_squares(const at::Tensor& gradients, ExactSum& sum);

/// The same for several, which lie on one device: the host waits for it once.
void add_squares(std::span<const at::Tensor> gradients, ExactSum& sum);

/// The same by LibTorch's operators, on any device: what `add_squares` does off the CPU. Its
/// order within a block is another, and as fixed.
void add_squares_by_operators(std::span<const at::Tensor> gradients, ExactSum& sum);

/// What gradients are multiplied by so that their global norm is at most `max_norm`; 1 if that is
/// 0, which stands for no clipping.
/// Source: torch.nn.utils.clip_grad_norm_: min(1, max_norm / (norm + 1e-6)).
double clip_factor(double norm, double max_norm);

}  // namespace temper
