// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include "model/ops/attention.h"
#include "model/weight.h"

namespace temper {

/// x / rms(x) * weight, over each row: scaled in fp32, cast back, then multiplied.
///
/// The backward pass writes the weight's gradient.
/// Shapes: x [T, n], weight [n]; returns [T, n].
/// Source: Zhang and Sennrich, "Root mean square layer normalization", 2019.
at::Tensor rms_norm(const at::Tensor& x, const Weight& weight, double epsilon);

struct HeadNormWeights {
  Weight queries;  // [head_dim]
  Weight keys;     // [head_dim]
};

/// RMSNorm of each query and each key head; values are passed on. Shapes: qkv [T, columns].
at::Tensor head_norm(const at::Tensor& qkv, const Heads& heads, const HeadNormWeights& weights,
                     double epsilon);

}  // namespace temper
