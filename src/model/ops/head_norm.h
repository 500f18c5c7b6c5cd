// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include "model/ops/attention.h"
#include "model/weight.h"

namespace temper {

struct HeadNormWeights {
  Weight queries;  // [head_dim]
  Weight keys;     // [head_dim]
};

/// RMSNorm of each query and each key head; values are passed on. Shapes: qkv [T, columns].
at::Tensor head_norm(const at::Tensor& qkv, const Heads& heads, const HeadNormWeights& weights,
                     double epsilon);

}  // namespace temper
