// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

namespace temper {

/// Moves numbers towards a goal by a share of the way: x += share * (goal - x), element by element.
///
/// The same bits however the range is cut and whatever the number of threads: no fused
/// multiply-adds.
/// Shapes: both [n], contiguous, fp32, on one device.
/// Throws: std::invalid_argument.
void move_towards(const at::Tensor& numbers, const at::Tensor& goal, double share);

}  // namespace temper
