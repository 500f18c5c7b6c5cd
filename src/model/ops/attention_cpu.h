// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include "model/ops/attention.h"

namespace temper {

struct AttentionResult {
  at::Tensor output;    // [T, query_columns]
  at::Tensor log_sums;  // [num_heads, T] fp32, of each row's exponentials
};

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
  int64_t element_bytes;
};
AttentionBytes attention_bytes(const Heads& heads, const AttentionWork& work, int num_threads);

/// Attention written out in matrix products over tiles, without those that the mask hides.
/// All of it is in fp32, whatever the dtype of qkv.
AttentionResult attention_on_cpu(const at::Tensor& qkv, const Heads& heads,
                                 const AttentionMask& mask);

/// `attention_over_cache` in the same way. Shapes: as there.
at::Tensor attention_over_cache_on_cpu(const at::Tensor& queries, const at::Tensor& keys,
                                       const at::Tensor& values, int64_t window);

/// Returns the gradient of qkv. The probabilities are computed again.
at::Tensor attention_backward_on_cpu(const at::Tensor& gradient, const at::Tensor& qkv,
                                     const Heads& heads, const AttentionMask& mask,
                                     const AttentionResult& result);

}  // namespace temper
