// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <utility>

#include "core/range.h"
#include "model/kl_options.h"
#include "model/ops/embedding.h"
#include "model/ops/norm.h"
#include "model/weight.h"

namespace temper {

/// What the head returns for one micro-batch.
struct HeadResult {
  double loss_sum = 0.0;            ///< Summed cross-entropy over the targets, not divided.
  double kl_sum = 0.0;              ///< The same of the divergence, without its weight.
  at::Tensor hidden_gradient = {};  ///< [T, hidden], of loss_sum; undefined from `loss`.
  at::Tensor losses = {};           ///< [n] fp32 on the host, the cross-entropy of each target.
};

/// The rows of a batch that have a target.
struct HeadTargets {
  /// Finds them. Where they lie on a device, the host waits for it. Shapes: targets [T] int64.
  HeadTargets(const at::Tensor& targets);
  /// Shapes: rows [n] int64, those with a target in ascending order.
  HeadTargets(const at::Tensor& targets, at::Tensor target_rows);

  at::Tensor rows;    ///< [n] int64
  at::Tensor tokens;  ///< [n] int64, the targets of those rows.
};

/// What the logits say of each target, in the order of their rows; on the host.
struct TargetScores {
  at::Tensor log_probabilities;  ///< [n] fp32, natural logarithms.
  at::Tensor are_greedy;  ///< [n] bool: the largest logit, of equal ones that of the lowest id.
};

/// How many logits may exist at a time: as many rows as fit into the bytes, and in any case so many
/// rows that reading the matrix is cheap beside computing with it.
struct LogitLimits {
  int64_t bytes = int64_t{128} << 20;
  int64_t rows = 1024;
};

/// Equal chunks of the rows with a target. They depend on the shapes alone.
class HeadChunks {
 public:
  HeadChunks(int64_t num_rows, int64_t bytes_per_row, LogitLimits limits = {});

  int64_t count() const { return count_; }
  int64_t largest() const;  ///< In rows.
  Range operator[](int64_t chunk) const {
    return {chunk * num_rows_ / count_, (chunk + 1) * num_rows_ / count_};
  }

 private:
  int64_t num_rows_;
  int64_t count_;
};

/// What becomes of the products of hidden states and matrix.
struct LogitRule {
  double scale = 1.0;    ///< They are multiplied,
  double softcap = 0.0;  ///< and then bounded: softcap tanh(l / softcap); 0: not.
  Weight bias = {};      ///< [vocab_size], added before that; or undefined.
};

/// What `Head::loss_and_gradient` allocates at its fullest, for rows that all have a target.
struct HeadWork {
  int64_t num_rows;
  int64_t hidden_size;
  int64_t vocab_size;
  int64_t element_bytes;      ///< Of the compute dtype.
  bool is_trained;            ///< Whether there is a gradient of the matrix, in that dtype.
  bool is_bounded = false;    ///< Whether logits are capped softly.
  bool is_kept_near = false;  ///< Whether there is another head.
};
int64_t head_bytes(const HeadWork& work, int num_threads);

class Head;

/// Another model's head, which the distributions of the targets are kept near.
struct OtherHead {
  const Head& head;
  at::Tensor hidden;  ///< [n, hidden_size], its own at the rows with a target.
  KlOptions kl;
};

/// The final norm and the output head.
///
/// Only rows with a target are computed, in chunks, so that few logits exist at a time.
class Head {
 public:
  Head(NormWeights norm, NormKind kind, Weight matrix, LogitRule rule = {}, LogitLimits limits = {})
      : norm_(std::move(norm)),
        kind_(kind),
        matrix_(std::move(matrix)),
        rule_(rule),
        limits_(limits) {}

  const Weight& matrix() const { return matrix_; }

  /// From now on the head computes with what of it an adapter trains: of each that is defined.
  void attach(const Weight& norm, const Weight& matrix, const TokenRows& rows);

  /// Shapes: hidden [T, hidden_size].
  HeadResult loss(const at::Tensor& hidden, const HeadTargets& targets) const;

  /// What the same logits say of each target. Shapes: as above, n targets.
  TargetScores scores(const at::Tensor& hidden, const HeadTargets& targets) const;

  /// The loss; writes the gradients of what is trained. With another head, of the loss with the
  /// weighted divergence from it.
  HeadResult loss_and_gradient(const at::Tensor& hidden, const HeadTargets& targets,
                               const OtherHead* other = nullptr) const;

  /// Shapes: hidden [T, hidden_size]; returns [T, vocab_size] fp32.
  at::Tensor logits(const at::Tensor& hidden) const;

 private:
  // Calls function(logits, targets) for each chunk of the rows with a target, without a graph.
  template <typename Function>
  void for_each_chunk(const at::Tensor& hidden, const HeadTargets& targets,
                      Function function) const;

  // Adds to the sums, writes the gradients of matrix and rows, returns the gradient of `normed` [n,
  // hidden].
  at::Tensor project(const at::Tensor& normed, const at::Tensor& targets, const OtherHead* other,
                     HeadResult& result) const;

  // Shapes: normed [n, hidden_size]; returns [n, vocab_size].
  at::Tensor logits_of(const at::Tensor& normed, const at::Tensor& matrix) const;

  NormWeights norm_;  // [hidden_size]
  NormKind kind_;
  Weight matrix_;   // [vocab_size, hidden_size]
  TokenRows rows_;  // Of the matrix, where only they are trained.
  LogitRule rule_;
  LogitLimits limits_;
};

}  // namespace temper
