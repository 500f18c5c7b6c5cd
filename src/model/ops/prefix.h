// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include "model/ops/attention.h"
#include "model/weight.h"

namespace temper {

/// The trained keys and values of one layer, which come before those of each document.
struct PrefixWeights {
  Weight table;              ///< [count, all layers' columns] fp32.
  int64_t first_column = 0;  ///< Of this layer's keys, then values: 2 * key_value_columns of them.

  bool is_defined() const { return table.is_defined(); }
  int64_t count() const { return table.shape()[0]; }

  /// This layer's part. Returns [count, 2 * key_value_columns] in `dtype`.
  at::Tensor keys_values(const Heads& heads, at::ScalarType dtype) const;
};

/// Attention in which every document sees the prefix, too; its keys are not rotated. The backward
/// pass writes this layer's part of the table's gradient.
///
/// Computed as attention over documents that begin with the prefix's keys and values.
/// Shapes: qkv [T, columns], rotated as if `count` tokens came before each document; returns
///   [T, query_columns].
/// Source: Li and Liang, "Prefix-tuning", arXiv:2101.00190; peft 0.21, tuners/prefix_tuning.
at::Tensor attention_after_prefix(const at::Tensor& qkv, const Heads& heads,
                                  const AttentionMask& mask, const PrefixWeights& prefix);

}  // namespace temper
