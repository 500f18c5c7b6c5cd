// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/range.h"
#include "model/ops/product.h"

namespace temper {

inline constexpr int64_t kTile = 64;           // Rows and columns.
inline constexpr int64_t kTileMultiple = 16;   // Of rows and columns of smaller ones: few kernels.
inline constexpr int64_t kLaneMultiple = 16;   // As above.
inline constexpr int64_t kLanesAtOnce = 3072;  // Of depth, for which factors are packed together.
inline constexpr int64_t kRowTilesAtOnce = 64;
inline constexpr int64_t kPackedFloats =
    3 << 20;  // 12 MiB of each factor, in the cache of all cores.
inline constexpr int64_t kThin = 16;

/// Of depth, at most, in a block: few enough that tiles stay in the cache, and in fp32 that sums of
/// so many terms, which are then added up, lose no more than those of the usual libraries.
constexpr int64_t most_lanes(int64_t per_lane) { return per_lane == 1 ? 128 : 384; }

/// Of packed rows: no power of two, whose rows would share few places in the cache.
constexpr int64_t row_stride(int64_t per_lane) { return most_lanes(per_lane) + kLaneMultiple; }

inline int64_t divided_up(int64_t size, int64_t part) { return (size + part - 1) / part; }
inline int64_t rounded_up(int64_t size, int64_t multiple) {
  return divided_up(size, multiple) * multiple;
}

/// Calls function(range) for as few equal parts of a range as have at most `most` each.
template <typename Function>
void for_equal_parts(int64_t size, int64_t most, Function function) {
  const int64_t num_parts = divided_up(size, most);
  for (int64_t i = 0; i < num_parts; ++i) {
    function(Range{i * size / num_parts, (i + 1) * size / num_parts});
  }
}

/// The size of the largest of them.
inline int64_t largest_part(int64_t size, int64_t most) {
  return divided_up(size, divided_up(size, most));
}

/// How a product is cut into tiles, and what is packed at once. Depends on the shape and what is
/// multiplied alone.
struct ProductCut {
  int64_t num_lanes, num_blocks, block_lanes;  // Of the depth.
  int64_t blocks_at_once, panels_at_once, rows_at_once, tile_rows;

  ProductCut(const ProductShape& shape, int64_t per_lane, bool packs_rows)
      : num_lanes(divided_up(shape.depth, per_lane)),
        num_blocks(divided_up(num_lanes, most_lanes(per_lane))),
        block_lanes(rounded_up(divided_up(num_lanes, num_blocks), kLaneMultiple)),
        blocks_at_once(std::min(num_blocks, kLanesAtOnce / most_lanes(per_lane))),
        panels_at_once(std::min(divided_up(shape.columns, kTile),
                                kPackedFloats / (blocks_at_once * kTile * block_lanes))),
        rows_at_once(std::min(divided_up(shape.rows, kTile), kRowTilesAtOnce)),
        tile_rows(kTile * row_stride(per_lane)) {
    if (!packs_rows) return;
    rows_at_once = std::min(rows_at_once, kPackedFloats / (blocks_at_once * tile_rows));
  }

  int64_t packed_rows() const { return rows_at_once * blocks_at_once * tile_rows; }
  int64_t packed_panels() const { return panels_at_once * blocks_at_once * kTile * block_lanes; }
  int64_t sums() const {
    return num_blocks == blocks_at_once ? 0 : rows_at_once * panels_at_once * kTile * kTile;
  }
};

}  // namespace temper
