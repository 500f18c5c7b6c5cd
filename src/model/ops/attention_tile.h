// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "core/range.h"
#include "model/ops/attention_task.h"
#include "model/ops/rows.h"
#include "model/ops/tile_product.h"

namespace temper {

// What a task computes with: tiles of queries, blocks of keys, and the factors of their products.
//
// Scores are kept transposed, a row for each key and a column for each query of the tile: so the
// softmax of a query runs down a column, for many queries at once, and keys and values are factors
// as they lie in memory.

// Queries of one tile: enough for efficient products, few enough to waste little on the diagonal.
inline constexpr int64_t kQueriesPerTile = 64;
// Keys whose scores are computed at once: they stay in a thread's cache, however long the document.
inline constexpr int64_t kKeysPerBlock = 256;

/// The head as dense rows, followed by rows of zeros. Shapes: to [num_rows, head_dim].
template <typename T>
void load_rows(HeadColumns<T> head, int64_t num_rows, float* to) {
  for (int64_t row = 0; row < head.size; ++row) {
    const T* from = head.data + row * head.stride;
    if constexpr (std::is_same_v<std::remove_const_t<T>, float>) {
      std::copy_n(from, head.head_dim, to + row * head.head_dim);
    } else {
      at::vec::convert(from, to + row * head.head_dim, head.head_dim);
    }
  }
  std::fill(to + head.size * head.head_dim, to + num_rows * head.head_dim, 0.0F);
}

struct QueryMemory {
  TileMemory rows, transposed;
};

/// The queries of a tile, or what comes back to their outputs, as factors. What is missing in the
/// last tile is 0.
struct QueryFactors {
  const float* rows;        ///< [kQueriesPerTile, head_dim], dense.
  const float* transposed;  ///< [head_dim, kQueriesPerTile]

  template <typename T>
  QueryFactors(HeadColumns<T> head, QueryMemory& memory) {
    float* dense = memory.rows.of(kQueriesPerTile * head.head_dim);
    load_rows(head, kQueriesPerTile, dense);
    float* turned = memory.transposed.of(kQueriesPerTile * head.head_dim);
    transpose_tile({dense, kQueriesPerTile, head.head_dim, head.head_dim}, turned, kQueriesPerTile);
    rows = dense;
    transposed = turned;
  }
};

/// The keys or values of a document as dense rows: first factors of [keys, head_dim].
struct KeyRows {
  const float* data;
  int64_t num_rows;
  int64_t head_dim;

  template <typename T>
  KeyRows(HeadColumns<T> head, const Document& document, TileMemory& memory)
      : num_rows(document.padded), head_dim(head.head_dim) {
    float* dense = memory.of(num_rows * head_dim);
    load_rows(head, num_rows, dense);
    data = dense;
  }

  TileFactor<float> from(int64_t key) const { return {data + key * head_dim, head_dim}; }
};

/// The transpose of keys or values: first factors of [head_dim, keys], block by block.
class TransposedKeys {
 public:
  TransposedKeys(const KeyRows& rows, TileMemory& memory) : head_dim_(rows.head_dim) {
    const int64_t num_blocks = (rows.num_rows + kKeysPerBlock - 1) / kKeysPerBlock;
    float* to = memory.of(num_blocks * kKeysPerBlock * head_dim_);
    for (int64_t begin = 0; begin < rows.num_rows; begin += kKeysPerBlock) {
      const int64_t count = std::min(kKeysPerBlock, rows.num_rows - begin);
      transpose_tile({rows.from(begin).data, count, head_dim_, head_dim_}, to + begin * head_dim_,
                     kKeysPerBlock);
    }
    data_ = to;
  }

  /// Up to the end of the key's block.
  TileFactor<float> from(int64_t key) const {
    const int64_t column = key % kKeysPerBlock;
    return {data_ + (key - column) * head_dim_ + column, kKeysPerBlock};
  }

 private:
  int64_t head_dim_;
  const float* data_;
};

/// What a thread keeps from task to task, so that nothing is allocated in the steady state.
struct AttentionScratch {
  TileMemory keys, values, transposed;  // Of a document.
  QueryMemory queries, gradients;       // Of a tile, as what follows.
  TileMemory scores, score_gradients, sum, rows;

  static AttentionScratch& of_this_thread() {
    thread_local AttentionScratch scratch;
    return scratch;
  }
};

/// Queries [begin, end) of a document.
struct QueryTile {
  int64_t begin;
  int64_t end;
  int64_t first_key;  ///< Keys [first_key, end_key) are those that any of them sees, in multiples.
  int64_t end_key;
  int64_t window;  ///< 0: none.

  QueryTile(int64_t first_query, const Document& document, int64_t window_size)
      : begin(first_query),
        end(std::min(first_query + kQueriesPerTile, document.size)),
        first_key(window_size > 0 ? std::max<int64_t>(0, first_query - window_size + 1) /
                                        kKeyMultiple * kKeyMultiple
                                  : 0),
        end_key(std::min(first_query + kQueriesPerTile, document.padded)),
        window(window_size) {}

  int64_t size() const { return end - begin; }

  /// Calls function(keys) for each block of keys, in their order.
  template <typename Function>
  void for_each_block(Function function) const {
    for (int64_t key = first_key; key < end_key;) {
      const int64_t next = std::min(key / kKeysPerBlock * kKeysPerBlock + kKeysPerBlock, end_key);
      function(Range{key, next});
      key = next;
    }
  }

  /// The columns, counted from the tile's first query, that see a key.
  Range that_see(int64_t key) const {
    const auto column = [&](int64_t query) {
      return std::clamp<int64_t>(query - begin, 0, kQueriesPerTile);
    };
    return {column(key), window > 0 ? column(key + window) : kQueriesPerTile};
  }

  /// Gives what the mask hides a weight of 0. Shapes: scores [keys, kQueriesPerTile].
  void hide(Range keys, float* scores) const {
    for (int64_t key = keys.begin; key < keys.end; ++key) {
      const Range seen = that_see(key);
      float* row = scores + (key - keys.begin) * kQueriesPerTile;
      std::fill(row, row + seen.begin, -INFINITY);
      std::fill(row + seen.end, row + kQueriesPerTile, -INFINITY);
    }
  }
};

/// One number for each query of a tile.
using TileRow = std::array<float, kQueriesPerTile>;

/// Some queries of a tile, as many as fill a line of the cache with AVX2.
using Columns = at::vec::VectorizedN<float, 2>;
static_assert(kQueriesPerTile % Columns::size() == 0);

/// Multiplies the sums of each query with a factor. Shapes: sums [head_dim, kQueriesPerTile].
inline void scale_columns(float* sums, int64_t head_dim, const TileRow& factors) {
  for (int64_t i = 0; i < head_dim; ++i) {
    float* row = sums + i * kQueriesPerTile;
    for (size_t j = 0; j < factors.size(); ++j) row[j] *= factors[j];
  }
}

/// Writes the sums of a tile to the rows of its queries. Shapes: as above.
template <typename T>
void write_sums(const float* sums, HeadColumns<T> to, TileMemory& memory) {
  float* rows = memory.of(kQueriesPerTile * to.head_dim);
  transpose_tile({sums, to.head_dim, kQueriesPerTile, kQueriesPerTile}, rows, to.head_dim);
  for (int64_t i = 0; i < to.size; ++i) {
    const float* row = rows + i * to.head_dim;
    if constexpr (std::is_same_v<T, float>) {
      std::copy_n(row, to.head_dim, to.data + i * to.stride);
    } else {
      at::vec::convert(row, to.data + i * to.stride, to.head_dim);
    }
  }
}

}  // namespace temper
