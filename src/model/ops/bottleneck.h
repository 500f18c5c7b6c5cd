// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include "model/ops/activation_function.h"
#include "model/weight.h"

namespace temper {

/// A small network behind a sublayer of a block: b(x) = up(function(down(x))), with biases.
///
/// The weights are fp32, and so is the arithmetic, whatever the stream is; the sum is rounded to
/// the dtype of the stream.
/// Source: Houlsby et al., "Parameter-efficient transfer learning for NLP", arXiv:1902.00751.
struct BottleneckWeights {
  Weight down;       ///< [size, hidden]
  Weight down_bias;  ///< [size]
  Weight up;         ///< [hidden, size]
  Weight up_bias;    ///< [hidden]
  ActivationFunction function = ActivationFunction::kSwish;
  bool reads_sum = false;  ///< x is the residual with the sublayer's output, not that alone.

  bool is_defined() const { return down.is_defined(); }
};

/// x + b(x). The backward pass writes the gradients of the weights.
/// Shapes: x [T, hidden]; returns the same.
at::Tensor bottleneck(const at::Tensor& x, const BottleneckWeights& weights);

/// residual + y + b(y). Shapes: all [T, hidden].
at::Tensor bottleneck_onto(const at::Tensor& residual, const at::Tensor& y,
                           const BottleneckWeights& weights);

}  // namespace temper
