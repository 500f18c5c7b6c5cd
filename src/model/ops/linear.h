// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include "model/weight.h"

namespace temper {

struct LinearWeights {
  Weight matrix;  // [out, in]
  Weight bias;    // [out]; undefined where there is none.
};

/// x W^T + b. The backward pass writes the weights' gradients.
/// Shapes: x [T, in]; returns [T, out].
at::Tensor linear(const at::Tensor& x, const LinearWeights& weights);

/// residual + x W^T + b: the product adds onto the residual. Shapes: residual [T, out].
at::Tensor linear_onto(const at::Tensor& residual, const at::Tensor& x,
                       const LinearWeights& weights);

}  // namespace temper
