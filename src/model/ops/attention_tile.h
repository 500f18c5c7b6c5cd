// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "core/range.h"
#include "model/ops/attention_factors.h"
#include "model/ops/attention_task.h"
#include "model/ops/rows.h"
#include "model/ops/tile_copy.h"
#include "model/ops/tile_product.h"

namespace temper {

// What a task computes with: tiles of queries and blocks of keys.
//
// Scores are kept transposed, a row for each key and a column for each query of the tile: so the
// softmax of a query runs down a column, for many queries at once, and keys and values are factors
// as they lie in memory.

/// What a thread keeps from task to task, so that nothing is allocated in the steady state.
struct AttentionScratch {
  TileMemory keys, values, transposed;  // Of a document.
  FactorMemory queries, gradients;      // Of a tile, as what follows.
  TileMemory scores, score_gradients, bounded, sum, rows;
  FactorMemory weights;

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

/// How scores become those of the softmax, which multiplies them by `factor`.
struct ScoreRule {
  float scale;
  float softcap;  ///< 0: none.

  explicit ScoreRule(const Heads& heads)
      : scale(heads.score_scale()), softcap(static_cast<float>(heads.softcap)) {}

  float factor() const { return softcap > 0.0F ? 1.0F : scale; }

  /// From products of queries and keys; before the mask. Shapes: scores [keys, kQueriesPerTile].
  void apply(float* scores, int64_t num_keys) const {
    if (softcap == 0.0F) return;
    const Columns inner(scale / softcap), outer(softcap);
    for (int64_t place = 0; place < num_keys * kQueriesPerTile; place += Columns::size()) {
      ((Columns::loadu(scores + place) * inner).tanh() * outer).store(scores + place);
    }
  }

  /// From the gradients of what `apply` has made to those of the products. The softmax has made
  /// weights of 0 of the scores that the mask hides.
  void apply_slope(const float* scores, float* gradients, int64_t num_keys) const {
    const Columns inverse(1.0F / softcap), one(1.0F), outer(scale);
    for (int64_t place = 0; place < num_keys * kQueriesPerTile; place += Columns::size()) {
      const Columns bounded = Columns::loadu(scores + place) * inverse;
      const Columns slope = at::vec::clamp_min(one - bounded * bounded, Columns(0.0F));
      (Columns::loadu(gradients + place) * slope * outer).store(gradients + place);
    }
  }
};

/// Multiplies the sums of each query with a factor. Shapes: sums [head_dim, kQueriesPerTile].
inline void scale_columns(float* sums, int64_t head_dim, const TileRow& factors) {
  for (int64_t i = 0; i < head_dim; ++i) {
    float* row = sums + i * kQueriesPerTile;
    for (size_t j = 0; j < factors.size(); ++j) row[j] *= factors[j];
  }
}

/// Calls function(T{}, Tile{}): what numbers are in memory, and what they are multiplied in.
template <typename Function>
void dispatch_tiles(at::ScalarType dtype, Function function) {
  dispatch_dtype(dtype, [&](auto element) {
    if constexpr (std::is_same_v<decltype(element), float>) {
      function(element, float{});
    } else if (has_bfloat16_tiles()) {
      function(element, at::BFloat16{});
    } else {
      function(element, float{});
    }
  });
}

/// Writes the sums of a tile to the rows of its queries. Shapes: as above.
template <typename T>
void write_sums(const float* sums, HeadColumns<T> to, TileMemory& memory) {
  float* rows = memory.of(kQueriesPerTile * to.head_dim);
  transpose_tile({sums, to.head_dim, kQueriesPerTile, kQueriesPerTile}, rows, to.head_dim);
  if constexpr (std::is_same_v<T, float>) {
    for (int64_t i = 0; i < to.size; ++i) {
      std::copy_n(rows + i * to.head_dim, to.head_dim, to.data + i * to.stride);
    }
  } else {
    round_tile({rows, to.size, to.head_dim, to.head_dim}, to.data, to.stride);
  }
}

}  // namespace temper
