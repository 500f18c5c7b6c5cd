// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <vector>

#include "model/ops/attention.h"
#include "model/ops/product.h"
#include "model/ops/rows.h"

namespace temper {

// What attention over documents or over a cache computes with: the columns of a head, tiles of its
// queries, and rows of scores.

// Queries of one tile: enough for efficient products, few enough to waste little on the diagonal.
inline constexpr int64_t kQueriesPerTile = 64;

/// The columns of one head in a [T, columns] tensor, for the rows of one document.
template <typename T>
struct HeadColumns {
  T* data;
  int64_t rows;
  int64_t head_dim;
  int64_t stride;
};

/// A head as fp32: itself, or converted into `scratch`.
inline MatrixView read_head(HeadColumns<const float> head, std::vector<float>& /*scratch*/) {
  return {const_cast<float*>(head.data), head.rows, head.head_dim, head.stride};
}
inline MatrixView read_head(HeadColumns<const at::BFloat16> head, std::vector<float>& scratch) {
  scratch.resize(static_cast<size_t>(head.rows * head.head_dim));
  for (int64_t row = 0; row < head.rows; ++row) {
    at::vec::convert(head.data + row * head.stride, scratch.data() + row * head.head_dim,
                     head.head_dim);
  }
  return {scratch.data(), head.rows, head.head_dim, head.head_dim};
}

/// Where to compute a head that `write_head` then leaves in its tensor.
inline MatrixView head_buffer(HeadColumns<float> head, std::vector<float>& /*scratch*/) {
  return {head.data, head.rows, head.head_dim, head.stride};
}
inline MatrixView head_buffer(HeadColumns<at::BFloat16> head, std::vector<float>& scratch) {
  scratch.resize(static_cast<size_t>(head.rows * head.head_dim));
  return {scratch.data(), head.rows, head.head_dim, head.head_dim};
}
template <typename T>
void write_head(HeadColumns<T> head, const MatrixView& buffer) {
  for (int64_t row = 0; row < head.rows; ++row) {
    write_row(head.data + row * head.stride, buffer.data + row * buffer.stride, head.head_dim);
  }
}

/// What a thread keeps from task to task, so that nothing is allocated in the steady state.
struct AttentionScratch {
  std::vector<float> queries, keys, values, output, output_gradient, query_gradient;
  std::vector<float> scores, score_gradient, row_values;

  static AttentionScratch& of_this_thread() {
    thread_local AttentionScratch scratch;
    return scratch;
  }
};

/// One query head of one document.
struct HeadTask {
  int64_t begin;  // The document's first row.
  int64_t size;   // Of the document.
  int64_t head;

  HeadTask(int64_t index, const Heads& heads, const AttentionMask& mask)
      : begin(mask.document_begins[static_cast<size_t>(index / heads.num_heads)]),
        size(mask.document_begins[static_cast<size_t>(index / heads.num_heads) + 1] - begin),
        head(index % heads.num_heads) {}

  static int64_t count(const Heads& heads, const AttentionMask& mask) {
    return (static_cast<int64_t>(mask.document_begins.size()) - 1) * heads.num_heads;
  }

  /// This task's columns of a tensor [T, stride] whose heads of this kind begin at first_column.
  template <typename T>
  HeadColumns<T> columns(T* tensor, int64_t stride, int64_t first_column,
                         const Heads& heads) const {
    return {tensor + begin * stride + first_column, size, heads.head_dim, stride};
  }
};

/// Queries, keys and values of one task.
struct HeadInputs {
  MatrixView queries, keys, values;  // [size, head_dim]

  template <typename T>
  HeadInputs(const T* qkv, const HeadTask& task, const Heads& heads, AttentionScratch& scratch) {
    const int64_t kv = task.head / heads.group() * heads.head_dim;
    const auto part = [&](int64_t first_column) {
      return task.columns(qkv, heads.columns(), first_column, heads);
    };
    queries = read_head(part(task.head * heads.head_dim), scratch.queries);
    keys = read_head(part(heads.first_key_column() + kv), scratch.keys);
    values = read_head(part(heads.first_value_column() + kv), scratch.values);
  }
};

/// Queries [begin, end) of a document, and the keys [first_key, end) that any of them sees.
struct QueryTile {
  int64_t begin;
  int64_t end;
  int64_t first_key;
  int64_t window;
  int64_t most_keys;  ///< Of any tile of the document.

  QueryTile(int64_t first_query, int64_t size, int64_t window_size)
      : begin(first_query),
        end(std::min(first_query + kQueriesPerTile, size)),
        first_key(window_size > 0 ? std::max<int64_t>(0, first_query - window_size + 1) : 0),
        window(window_size),
        most_keys(widest(size, window_size)) {}

  /// The most keys that a tile of a document of `size` tokens sees.
  static int64_t widest(int64_t size, int64_t window_size) {
    return window_size > 0 ? std::min(size, window_size + kQueriesPerTile - 1) : size;
  }

  int64_t num_queries() const { return end - begin; }
  int64_t num_keys() const { return end - first_key; }

  /// The columns of the tile's scores that its row `row` sees.
  Range visible(int64_t row) const {
    const int64_t query = begin + row;
    const int64_t first = window > 0 ? std::max(first_key, query - window + 1) : first_key;
    return {first - first_key, query + 1 - first_key};
  }

  MatrixView of_queries(const MatrixView& document) const { return document.row_range(begin, end); }
  MatrixView of_keys(const MatrixView& document) const {
    return document.row_range(first_key, end);
  }

  /// A buffer for one number per query and key.
  MatrixView scores_in(std::vector<float>& memory) const {
    // At once what the largest tile needs: a vector that grows takes up to twice as much.
    const auto size = static_cast<size_t>(kQueriesPerTile * most_keys);
    if (memory.size() < size) memory = std::vector<float>(size);
    return {memory.data(), num_queries(), num_keys(), num_keys()};
  }
};

struct RowSum {
  float maximum;
  float sum;
};

// Turns a row of scores into exponentials that are not yet divided by their sum.
inline RowSum exponentiate(float* row, int64_t size) {
  const float maximum = at::vec::reduce_all<float>(
      [](Vector a, Vector b) { return at::vec::maximum(a, b); }, row, size);
  const Vector shift(maximum);
  at::vec::map<float>([&](Vector x) { return (x - shift).exp(); }, row, row, size);
  return {maximum, at::vec::reduce_all<float>([](Vector a, Vector b) { return a + b; }, row, size)};
}

inline void scale_rows(const MatrixView& matrix, const float* factors) {
  for (int64_t i = 0; i < matrix.rows; ++i) {
    float* row = matrix.data + i * matrix.stride;
    for (int64_t j = 0; j < matrix.columns; ++j) row[j] *= factors[i];
  }
}

inline float attention_scale(int64_t head_dim) {
  return 1.0F / std::sqrt(static_cast<float>(head_dim));
}

}  // namespace temper
