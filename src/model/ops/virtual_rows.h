// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "model/ops/attention.h"
#include "model/weight.h"

namespace temper {

/// Rows of a packed batch in which each document begins with the same `count` virtual rows: those
/// of a trained prefix or prompt.
class VirtualRows {
 public:
  /// `document_begins` [D + 1] without the virtual rows, from 0 to T.
  VirtualRows(std::vector<int64_t> document_begins, int64_t count)
      : begins_(std::move(document_begins)), count_(count) {}

  /// [D + 1], from 0 to T + D * count.
  std::vector<int64_t> document_begins() const;

  /// Shapes: rows_before [count, n], rows [T, n]; returns [T + D * count, n].
  at::Tensor insert(const at::Tensor& rows_before, const at::Tensor& rows) const;

  /// The documents' own rows. Shapes: all [T + D * count, n]; returns [T, n].
  at::Tensor real(const at::Tensor& all) const;

  /// The virtual rows, added up over the documents in their order. Returns [count, n] fp32.
  at::Tensor sum_virtual(const at::Tensor& all) const;

 private:
  int64_t num_documents() const { return static_cast<int64_t>(begins_.size()) - 1; }

  std::vector<int64_t> begins_;
  int64_t count_;
};

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
