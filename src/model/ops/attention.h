// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cmath>
#include <cstdint>
#include <vector>

#include "core/range.h"
#include "model/weight.h"

namespace temper {

/// How the columns of a joint projection [T, (num_heads + 2 num_key_value_heads) head_dim] divide
/// into heads: queries, then keys, then values. Each key-value head serves `group()` query heads.
struct Heads {
  int64_t num_heads = 0;
  int64_t num_key_value_heads = 0;
  int64_t head_dim = 0;
  double scale = 0.0;    ///< By which scores are multiplied; 0: 1 / sqrt(head_dim).
  double softcap = 0.0;  ///< Scaled scores s are then bounded: softcap tanh(s / softcap); 0: not.
  Weight sinks = {};     ///< [num_heads], a score of each beside those of keys, whose value is 0;
                         ///< undefined where there are none.

  float score_scale() const {
    return scale > 0.0 ? static_cast<float>(scale) : 1.0F / std::sqrt(static_cast<float>(head_dim));
  }
  int64_t group() const { return num_heads / num_key_value_heads; }
  int64_t query_columns() const { return num_heads * head_dim; }
  int64_t key_value_columns() const { return num_key_value_heads * head_dim; }
  int64_t columns() const { return query_columns() + 2 * key_value_columns(); }
  int64_t first_key_column() const { return query_columns(); }
  int64_t first_value_column() const { return query_columns() + key_value_columns(); }
};

/// The columns of a projection that has, for each key-value head, its queries, its key and its
/// value, in the order of `Heads`. Shapes: grouped [T, columns]; returns the same.
at::Tensor from_groups(const at::Tensor& grouped, const Heads& heads);

/// Which keys a query sees: those of its own document, not after it, and fewer than `window`
/// tokens before it unless that is 0.
struct AttentionMask {
  std::vector<int64_t> document_begins;  // [num_documents + 1], from 0 to T
  int64_t window = 0;
};

/// softmax(q k^T / sqrt(head_dim)) v for each query head, with what `heads` say of the scores. The
/// backward pass writes the gradient of the sinks.
/// Shapes: qkv [T, columns]; returns [T, query_columns].
/// Source: Dao, "FlashAttention-2", 2023, for the backward pass from the row's log-sum-exp.
at::Tensor attention(const at::Tensor& qkv, const Heads& heads, const AttentionMask& mask);

/// A sequence of which some tokens are new: their rows among the queries, and the keys and values
/// of all of its tokens, which end with theirs.
/// Shapes: keys and values [n, num_key_value_heads, head_dim] with n >= queries.size().
struct CachedSequence {
  Range queries;
  at::Tensor keys, values;
};

/// The same for new tokens of sequences, whose rows follow each other. A sequence's bits do not
/// depend on the others.
/// Shapes: queries [T, num_heads, head_dim]; returns [T, query_columns].
at::Tensor attention_over_caches(const at::Tensor& queries,
                                 const std::vector<CachedSequence>& sequences, const Heads& heads,
                                 int64_t window);

/// What attention on a CPU allocates for documents of at most so many tokens. The threads keep
/// theirs from call to call.
struct AttentionBytes {
  int64_t threads;   ///< Of all threads together.
  int64_t backward;  ///< While a backward pass runs.
};
struct AttentionWork {
  int64_t num_tokens;
  int64_t longest_document;
  int64_t window;  ///< 0: none.
};
AttentionBytes attention_bytes(const Heads& heads, const AttentionWork& work, int num_threads);

}  // namespace temper
