// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "model/kl_options.h"

namespace temper {

/// -log softmax(logits)[target] of each row, in fp32.
/// Shapes: logits [n, vocab_size], targets [n] int64; returns [n] fp32.
at::Tensor cross_entropy(const at::Tensor& logits, const at::Tensor& targets);

/// The same; overwrites `logits` with the gradient of the losses' sum.
at::Tensor cross_entropy_with_gradient(at::Tensor logits, const at::Tensor& targets);

/// Rows of fp32 that each thread of the function below takes.
inline constexpr int64_t kScratchRowsOfNear = 5;

/// What a row adds to the loss. Shapes: both [n] fp32.
struct NearLosses {
  at::Tensor cross_entropy;
  at::Tensor divergence;  ///< From the other logits, without its weight.
};

/// The same beside other logits that these are kept near; overwrites `logits` with the gradient of
/// the sum of cross-entropy and weighted divergence.
/// Shapes: as above; other [n, vocab_size] in the dtype of the logits.
NearLosses near_losses_with_gradient(at::Tensor logits, const at::Tensor& targets,
                                     const at::Tensor& other, const KlOptions& kl);

}  // namespace temper
