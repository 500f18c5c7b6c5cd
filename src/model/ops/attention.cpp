// SPDX-License-Identifier: Apache-2.0
#include "model/ops/attention.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "model/ops/attention_sinks.h"
#include "model/ops/attention_task.h"
#include "model/ops/attention_tile.h"
#include "model/ops/backward.h"
#include "model/ops/flash_attention.h"

namespace temper {
namespace {

// By differentiable ATen operations, document by document.
at::Tensor elsewhere(const at::Tensor& qkv, const Heads& heads, const AttentionMask& mask) {
  const auto part = [&](int64_t first_column, int64_t num_heads) {
    return qkv.narrow(1, first_column, num_heads * heads.head_dim)
        .unflatten(1, {num_heads, heads.head_dim});
  };
  const at::Tensor queries = part(0, heads.num_heads);
  const at::Tensor keys = part(heads.first_key_column(), heads.num_key_value_heads);
  const at::Tensor values = part(heads.first_value_column(), heads.num_key_value_heads);
  std::vector<CachedSequence> documents;
  for (size_t i = 0; i + 1 < mask.document_begins.size(); ++i) {
    const Range rows{mask.document_begins[i], mask.document_begins[i + 1]};
    documents.push_back(
        {rows, keys.narrow(0, rows.begin, rows.size()), values.narrow(0, rows.begin, rows.size())});
  }
  return attention_over_caches(queries, documents, heads, mask.window);
}

// What AttentionScratch holds after a document of so many keys.
int64_t scratch_bytes(int64_t num_keys, const Heads& heads) {
  const int64_t head_dim = heads.head_dim;
  const int64_t blocks = (num_keys + kKeysPerBlock - 1) / kKeysPerBlock * kKeysPerBlock;
  const int64_t num_scores = heads.softcap > 0.0 ? 4 : 3;  // In bf16: and as two factors.
  const int64_t scores = num_scores * kQueriesPerTile * kKeysPerBlock;
  const int64_t of_tile = 6 * kQueriesPerTile * head_dim, packing = kKeysPerBlock * head_dim;
  return (scores + of_tile + packing + (2 * num_keys + blocks) * head_dim) *
         static_cast<int64_t>(sizeof(float));
}

}  // namespace

at::Tensor from_groups(const at::Tensor& grouped, const Heads& heads) {
  const int64_t count = heads.num_key_value_heads;
  if (count == 1) return grouped;
  at::Tensor ordered = without_graph([&] {
    std::vector<at::Tensor> parts = grouped.unflatten(1, {count, heads.group() + 2, heads.head_dim})
                                        .split_with_sizes({heads.group(), 1, 1}, 2);
    for (at::Tensor& part : parts) part = part.flatten(1);
    return at::cat(parts, 1);
  });
  return with_backward(
      std::move(ordered), {grouped},
      [heads, count](const at::Tensor& gradient) -> std::vector<at::Tensor> {
        const int64_t keys = heads.key_value_columns();
        auto parts = gradient.split_with_sizes({heads.query_columns(), keys, keys}, 1);
        for (at::Tensor& part : parts) part = part.unflatten(1, {count, -1, heads.head_dim});
        return {at::cat(parts, 2).flatten(1)};
      });
}

at::Tensor attention(const at::Tensor& qkv, const Heads& heads, const AttentionMask& mask) {
  if (has_flash_attention(qkv, heads)) return flash_attention(qkv, heads, mask);
  if (!qkv.is_cpu()) return elsewhere(qkv, heads, mask);
  AttentionResult result = attention_forward(qkv, heads, mask);
  return with_backward(
      result.output, {qkv},
      [qkv, heads, mask, kept = AttentionResult{result.output.detach(), result.log_sums}](
          const at::Tensor& gradient) -> std::vector<at::Tensor> {
        const at::Tensor given = gradient.contiguous();
        write_sink_gradients(given, kept, heads);
        return {attention_backward(given, qkv, heads, mask, kept)};
      });
}

AttentionBytes attention_bytes(const Heads& heads, const AttentionWork& work, int num_threads) {
  constexpr int64_t kFloatBytes = sizeof(float);
  const int64_t size = heads.head_dim;
  const int64_t padded = documents_of({{0, work.longest_document}, work.window}).back().padded;
  const int64_t num_documents =
      (work.num_tokens + work.longest_document - 1) / work.longest_document;
  return {num_threads * scratch_bytes(padded, heads),
          heads.num_heads * num_documents * padded * 2 * size * kFloatBytes};
}

}  // namespace temper
