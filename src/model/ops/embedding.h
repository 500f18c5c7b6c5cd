// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "model/weight.h"

namespace temper {

/// Adds row t of `gradient` to row tokens[t] of `sums`, for each t: in fp32 and in token order,
/// rounded once. Shapes: sums [vocab_size, n], gradient [T, n], tokens [T] int64.
void add_rows_by_token(at::Tensor sums, const at::Tensor& gradient, const at::Tensor& tokens);

/// Rows of an embedding or output head that are trained while all others are frozen: those of some
/// tokens. They are put in the place of the frozen ones wherever the matrix has been gathered.
/// Source: peft 0.21, tuners/trainable_tokens.
struct TokenRows {
  Weight rows;                       ///< [n, hidden_size] fp32.
  std::vector<int64_t> tokens = {};  ///< [n], each once.

  bool is_defined() const { return rows.is_defined(); }

  /// Overwrites the rows of the tokens, rounded to its dtype. Shapes: matrix [vocab_size, n].
  void put_into(at::Tensor matrix) const;

  /// The gradient of the rows in logits = x matrix^T.
  /// Shapes: gradient [T, vocab_size] of the logits, x [T, hidden_size]; returns [n, hidden_size].
  at::Tensor head_gradient(const at::Tensor& gradient, const at::Tensor& x) const;

  /// Adds that of looking tokens up. Shapes: gradient [T, hidden_size], looked_up [T] int64.
  void add_embedding_gradient(const at::Tensor& gradient, const at::Tensor& looked_up) const;

 private:
  at::Tensor index(const at::Tensor& beside) const;
};

}  // namespace temper
