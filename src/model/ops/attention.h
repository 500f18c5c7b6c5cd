// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "model/ops/heads.h"

namespace temper {

/// Which keys a query sees: those of its own document, not after it, and fewer than `window`
/// tokens before it unless that is 0.
struct AttentionMask {
  std::vector<int64_t> document_begins;  // [num_documents + 1], from 0 to T
  int64_t window = 0;
};

/// softmax(q k^T / sqrt(head_dim)) v for each query head.
/// Shapes: qkv [T, columns]; returns [T, query_columns].
/// Source: Dao, "FlashAttention-2", 2023, for the backward pass from the row's log-sum-exp.
at::Tensor attention(const at::Tensor& qkv, const Heads& heads, const AttentionMask& mask);

/// The same for new tokens of one sequence, whose keys and values follow those before them.
/// Shapes: queries [T, num_heads, head_dim], keys and values [n, num_key_value_heads, head_dim]
///   with n >= T; returns [T, query_columns].
at::Tensor attention_over_cache(const at::Tensor& queries, const at::Tensor& keys,
                                const at::Tensor& values, int64_t window);

}  // namespace temper
