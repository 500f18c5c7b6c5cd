// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "model/ops/attention_task.h"
#include "model/ops/tile_product.h"

namespace temper {

// The factors of a task's products: blocks of its document's keys and values, tiles of its queries.

// Queries of one tile: enough for efficient products, few enough to waste little on the diagonal.
inline constexpr int64_t kQueriesPerTile = 64;
// Keys whose scores are computed at once: they stay in a thread's cache, however long the document.
inline constexpr int64_t kKeysPerBlock = 256;

template <typename T>
TileSource source_of(HeadColumns<T> head) {
  return {head.data,   c10::CppTypeToScalarType<std::remove_const_t<T>>::value,
          head.size,   head.head_dim,
          head.stride, /*depth_step=*/1};
}

// `Tile` is what is multiplied: the model's own dtype where the processor can, so that factors that
// come from memory are exact; weights and their gradients are computed in fp32 and rounded to it.

struct FactorMemory {
  TileMemory rows, columns;
};

/// The queries of a tile, or what comes back to their outputs, as second factors. What is missing
/// in the last tile is 0.
template <typename Tile>
struct QueryFactors {
  const Tile* rows;     ///< [lanes of kQueriesPerTile, head_dim], dense.
  const Tile* columns;  ///< [lanes of head_dim, kQueriesPerTile], dense.

  enum class Needs { kColumns, kBoth };

  template <typename T>
  QueryFactors(HeadColumns<T> head, Needs needs, FactorMemory& memory) : rows(nullptr) {
    const TileSource source = source_of(head);
    const int64_t size = head.head_dim, lanes = lanes_of<Tile>(size);
    if (needs == Needs::kBoth) {
      constexpr int64_t kLanes = kQueriesPerTile / kPerLane<Tile>;
      float* dense = memory.rows.of(kLanes * size);
      pack_columns<Tile>(source.transposed(), {size, kLanes}, dense, size);
      rows = reinterpret_cast<const Tile*>(dense);
    }
    float* turned = memory.columns.of(kQueriesPerTile * lanes);
    pack_columns<Tile>(source, {kQueriesPerTile, lanes}, turned, kQueriesPerTile);
    columns = reinterpret_cast<const Tile*>(turned);
  }
};

/// Weights of a block, or gradients of its scores, as factors. Shapes: numbers [num_keys,
/// kQueriesPerTile], dense; num_keys is a whole multiple.
struct ScoreSource {
  const float* numbers;
  int64_t num_keys;

  TileSource rows() const {
    return {numbers, at::kFloat, num_keys, kQueriesPerTile, kQueriesPerTile, /*depth_step=*/1};
  }

  template <typename Tile>
  TileFactor<Tile> as_first(TileMemory& memory) const {
    if constexpr (std::is_same_v<Tile, float>) {
      return {numbers, kQueriesPerTile};
    } else {
      constexpr int64_t kLanes = kQueriesPerTile / kPerLane<Tile>;
      float* packed = memory.of(kKeysPerBlock * kLanes);
      pack_rows<Tile>(rows(), {num_keys, kLanes}, packed, kLanes);
      return {reinterpret_cast<const Tile*>(packed), kQueriesPerTile};
    }
  }

  template <typename Tile>
  const Tile* as_second(TileMemory& memory) const {
    if constexpr (std::is_same_v<Tile, float>) {
      return numbers;
    } else {
      float* packed = memory.of(lanes_of<Tile>(kKeysPerBlock) * kQueriesPerTile);
      pack_columns<Tile>(rows().transposed(), {kQueriesPerTile, lanes_of<Tile>(num_keys)}, packed,
                         kQueriesPerTile);
      return reinterpret_cast<const Tile*>(packed);
    }
  }
};

/// The keys or values of a document as dense rows: first factors of [keys, head_dim].
template <typename Tile>
struct KeyRows {
  const Tile* data;
  int64_t depth;  ///< head_dim, and what fills the last lane.

  template <typename T>
  KeyRows(HeadColumns<T> head, const Document& document, TileMemory& memory)
      : depth(lanes_of<Tile>(head.head_dim) * kPerLane<Tile>) {
    const int64_t lanes = depth / kPerLane<Tile>;
    float* dense = memory.of(document.padded * lanes);
    pack_rows<Tile>(source_of(head), {document.padded, lanes}, dense, lanes);
    data = reinterpret_cast<const Tile*>(dense);
  }

  TileFactor<Tile> from(int64_t key) const { return {data + key * depth, depth}; }
};

/// The transpose of keys or values: first factors of [head_dim, keys], block by block.
template <typename Tile>
class TransposedKeys {
 public:
  template <typename T>
  TransposedKeys(HeadColumns<T> head, const Document& document, TileMemory& memory)
      : head_dim_(head.head_dim) {
    constexpr int64_t kLanes = kKeysPerBlock / kPerLane<Tile>;
    const TileSource source = source_of(head);
    const int64_t num_blocks = (document.padded + kKeysPerBlock - 1) / kKeysPerBlock;
    float* to = memory.of(num_blocks * kLanes * head_dim_);
    for (int64_t block = 0; block < num_blocks; ++block) {
      const int64_t begin = block * kKeysPerBlock;
      const int64_t padded = std::min(kKeysPerBlock, document.padded - begin);
      const int64_t count = std::min(padded, document.size - begin);
      pack_rows<Tile>(source.part(begin, count, 0, head_dim_).transposed(),
                      {head_dim_, lanes_of<Tile>(padded)}, to + block * kLanes * head_dim_, kLanes);
    }
    data_ = reinterpret_cast<const Tile*>(to);
  }

  /// Up to the end of the key's block.
  TileFactor<Tile> from(int64_t key) const {
    const int64_t column = key % kKeysPerBlock;
    return {data_ + (key - column) * head_dim_ + column, kKeysPerBlock};
  }

 private:
  int64_t head_dim_;
  const Tile* data_;
};

}  // namespace temper
