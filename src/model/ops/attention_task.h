// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "model/ops/attention.h"
#include "model/ops/rows.h"

namespace temper {

// Attention over documents on a CPU: what is computed where. A task is one query head of one
// document.

// Few kernels, since blocks are of whole multiples, and little waste in short documents.
inline constexpr int64_t kKeyMultiple = 16;

/// One document of a packed batch. Its keys are padded with zeros.
struct Document {
  int64_t begin = 0;   ///< Its first row.
  int64_t size = 0;    ///< Tokens.
  int64_t padded = 0;  ///< Tokens and padding.
  int64_t place = 0;   ///< Its first row where all documents are padded.
};

/// In their order.
inline std::vector<Document> documents_of(const AttentionMask& mask) {
  std::vector<Document> documents;
  int64_t place = 0;
  for (size_t i = 0; i + 1 < mask.document_begins.size(); ++i) {
    const int64_t begin = mask.document_begins[i], size = mask.document_begins[i + 1] - begin;
    const int64_t padded = (size + kKeyMultiple - 1) / kKeyMultiple * kKeyMultiple;
    documents.push_back({begin, size, padded, place});
    place += padded;
  }
  return documents;
}

/// The columns of one head in a [T, stride] tensor, for `size` rows.
template <typename T>
struct HeadColumns {
  T* data;
  int64_t size;
  int64_t head_dim;
  int64_t stride;

  HeadColumns rows(int64_t begin, int64_t end) const {
    return {data + begin * stride, end - begin, head_dim, stride};
  }
};

/// The order in which tasks begin: the longest first, so that no thread is left with one at the
/// end.
inline std::vector<Document> longest_first(std::vector<Document> documents) {
  std::stable_sort(documents.begin(), documents.end(),
                   [](const Document& a, const Document& b) { return a.size > b.size; });
  return documents;
}

/// Calls function(document, head) for each query head of each document.
template <typename Function>
void for_each_head(const std::vector<Document>& documents, const Heads& heads, Function function) {
  const auto num_tasks = static_cast<int64_t>(documents.size()) * heads.num_heads;
  run_tasks(num_tasks, [&](int64_t task) {
    function(documents[static_cast<size_t>(task / heads.num_heads)], task % heads.num_heads);
  });
}

/// One head of one document in a joint projection.
template <typename T>
struct HeadOfDocument {
  HeadColumns<T> queries, keys, values;

  HeadOfDocument(T* qkv, const Document& document, int64_t head, const Heads& heads) {
    const int64_t size = heads.head_dim, stride = heads.columns();
    T* rows = qkv + document.begin * stride;
    const int64_t key_value_column = head / heads.group() * size;
    const auto part = [&](int64_t column) {
      return HeadColumns<T>{rows + column, document.size, size, stride};
    };
    queries = part(head * size);
    keys = part(heads.first_key_column() + key_value_column);
    values = part(heads.first_value_column() + key_value_column);
  }
};

/// One head of one document in a tensor [T, query_columns].
template <typename T>
HeadColumns<T> query_head(T* tensor, const Document& document, int64_t head, const Heads& heads) {
  const int64_t stride = heads.query_columns();
  return {tensor + document.begin * stride + head * heads.head_dim, document.size, heads.head_dim,
          stride};
}

/// What the backward pass needs of the forward pass.
struct AttentionResult {
  at::Tensor output;    ///< [T, query_columns]
  at::Tensor log_sums;  ///< [num_heads, T] fp32, of each row's exponentials and its head's sink.
};
AttentionResult attention_forward(const at::Tensor& qkv, const Heads& heads,
                                  const AttentionMask& mask);

/// Returns the gradient of qkv.
at::Tensor attention_backward(const at::Tensor& gradient, const at::Tensor& qkv, const Heads& heads,
                              const AttentionMask& mask, const AttentionResult& result);

}  // namespace temper
