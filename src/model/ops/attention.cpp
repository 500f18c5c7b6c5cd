// SPDX-License-Identifier: Apache-2.0
#include "model/ops/attention.h"

#include <ATen/ATen.h>

#include <cmath>
#include <utility>

#include "model/ops/attention_cpu.h"
#include "model/ops/backward.h"

namespace temper {
namespace {

// Row i stands for query first_query + i.
at::Tensor visible_keys(int64_t num_queries, int64_t num_keys, int64_t window, at::Device device) {
  const auto options = at::TensorOptions().dtype(at::kLong).device(device);
  const at::Tensor queries = at::arange(num_keys - num_queries, num_keys, options).unsqueeze(1);
  const at::Tensor distance = queries - at::arange(num_keys, options);
  const at::Tensor is_past = distance >= 0;
  return window > 0 ? is_past.logical_and(distance < window) : is_past;
}

// By differentiable ATen operations, document by document.
at::Tensor attention_elsewhere(const at::Tensor& qkv, const Heads& heads,
                               const AttentionMask& mask) {
  const auto part = [&](int64_t first_column, int64_t num_heads) {
    return qkv.narrow(1, first_column, num_heads * heads.head_dim)
        .unflatten(1, {num_heads, heads.head_dim});
  };
  const at::Tensor queries = part(0, heads.num_heads);
  const at::Tensor keys = part(heads.first_key_column(), heads.num_key_value_heads);
  const at::Tensor values = part(heads.first_value_column(), heads.num_key_value_heads);
  std::vector<at::Tensor> documents;
  for (size_t i = 0; i + 1 < mask.document_begins.size(); ++i) {
    const int64_t begin = mask.document_begins[i], size = mask.document_begins[i + 1] - begin;
    documents.push_back(attention_over_cache(queries.narrow(0, begin, size),
                                             keys.narrow(0, begin, size),
                                             values.narrow(0, begin, size), mask.window));
  }
  return at::cat(documents);
}

}  // namespace

at::Tensor attention(const at::Tensor& qkv, const Heads& heads, const AttentionMask& mask) {
  if (!qkv.is_cpu()) return attention_elsewhere(qkv, heads, mask);
  AttentionResult result = attention_on_cpu(qkv, heads, mask);
  return with_backward(
      result.output, {qkv},
      [qkv, heads, mask, kept = AttentionResult{result.output.detach(), result.log_sums}](
          const at::Tensor& gradient) -> std::vector<at::Tensor> {
        return {attention_backward_on_cpu(gradient.contiguous(), qkv, heads, mask, kept)};
      });
}

at::Tensor attention_over_cache(const at::Tensor& queries, const at::Tensor& keys,
                                const at::Tensor& values, int64_t window) {
  if (queries.is_cpu()) return attention_over_cache_on_cpu(queries, keys, values, window);
  const auto by_head = [](const at::Tensor& tokens) { return tokens.transpose(0, 1).unsqueeze(0); };
  const at::Tensor visible = visible_keys(queries.size(0), keys.size(0), window, queries.device());
  const at::Tensor out = at::scaled_dot_product_attention(
      by_head(queries), by_head(keys), by_head(values), visible, /*dropout_p=*/0.0,
      /*is_causal=*/false, /*scale=*/std::nullopt, /*enable_gqa=*/true);
  return out.squeeze(0).transpose(0, 1).flatten(1);
}

}  // namespace temper
