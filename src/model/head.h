// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <utility>

#include "model/ops/token_rows.h"
#include "model/weight.h"

namespace temper {

/// What the head returns for one micro-batch.
struct HeadResult {
  double loss_sum = 0.0;       ///< Summed cross-entropy over the targets, not divided.
  at::Tensor hidden_gradient;  ///< [T, hidden], of loss_sum; undefined from `loss`.
};

/// The final norm and the output head.
///
/// Only rows with a target are computed, in chunks, so that few logits exist at a time.
class Head {
 public:
  Head(Weight norm, Weight matrix, double epsilon)
      : norm_(std::move(norm)), matrix_(std::move(matrix)), epsilon_(epsilon) {}

  const Weight& matrix() const { return matrix_; }

  /// From now on the head computes with what of it an adapter trains: of each that is defined.
  void attach(const Weight& norm, const Weight& matrix, const TokenRows& rows);

  /// Shapes: hidden [T, hidden_size], targets [T] int64.
  HeadResult loss(const at::Tensor& hidden, const at::Tensor& targets) const;

  /// The same; writes the gradients of what is trained.
  HeadResult loss_and_gradient(const at::Tensor& hidden, const at::Tensor& targets) const;

  /// Shapes: hidden [T, hidden_size]; returns [T, vocab_size] fp32.
  at::Tensor logits(const at::Tensor& hidden) const;

 private:
  // Adds to loss_sum, writes the gradients of matrix and rows, returns the gradient of `normed` [n,
  // hidden].
  at::Tensor project(const at::Tensor& normed, const at::Tensor& targets, double& loss_sum) const;

  Weight norm_;     // [hidden_size]
  Weight matrix_;   // [vocab_size, hidden_size]
  TokenRows rows_;  // Of the matrix, where only they are trained.
  double epsilon_;
};

}  // namespace temper
