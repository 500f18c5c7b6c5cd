// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

namespace temper {

/// -log softmax(logits)[target] of each row, in fp32.
/// Shapes: logits [n, vocab_size], targets [n] int64; returns [n] fp32.
at::Tensor cross_entropy(const at::Tensor& logits, const at::Tensor& targets);

/// The same; overwrites `logits` with the gradient of the losses' sum.
at::Tensor cross_entropy_with_gradient(at::Tensor logits, const at::Tensor& targets);

}  // namespace temper
