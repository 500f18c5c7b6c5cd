// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <c10/core/ScalarType.h>
#include <c10/util/BFloat16.h>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace temper {

// Products of tiles within one thread's cache, c = a b, by oneDNN's micro-kernels, which use the
// widest vectors of any maker's processor. The sums are fp32. All are row-major; each sum is added
// up in the order of the depth, whatever the shape of its tile.
//
// The depth of bf16 tiles is counted in numbers, and comes in pairs: a row of b holds two numbers
// of the depth for each column, side by side. What takes 32 bits is called a lane: a number of
// fp32, a pair of bf16.

/// A kernel is compiled for each shape and stride, and kept by each thread: there must be few.
struct TileShape {
  int64_t rows;
  int64_t columns;
  int64_t depth;
};

template <typename T>
struct TileFactor {
  const T* data;
  int64_t stride;  ///< Between rows.
};

struct TileSum {
  float* data;
  int64_t stride;
  bool is_begun;  ///< Whether to add to what is there.
};

/// Shapes: a [rows, depth], b [depth, columns] dense, c [rows, columns].
void multiply_tiles(const TileShape& shape, TileFactor<float> a, const float* b, TileSum c);

/// Shapes: a [rows, depth], b [depth / 2, columns, 2] dense, c [rows, columns]; the depth is even.
void multiply_tiles(const TileShape& shape, TileFactor<at::BFloat16> a, const at::BFloat16* b,
                    TileSum c);

/// Whether the processor multiplies bf16 numbers itself, and oneDNN makes use of it. Where it does
/// not, they are multiplied in fp32.
bool has_bfloat16_tiles();

template <typename T>
inline constexpr int64_t kPerLane = sizeof(float) / sizeof(T);

template <typename T>
int64_t lanes_of(int64_t depth) {
  return (depth + kPerLane<T> - 1) / kPerLane<T>;
}

/// A part of a factor as it lies in memory. Its lines are the rows of a, or the columns of b. What
/// is packed as bf16 and is not is rounded.
struct TileSource {
  const void* data;
  at::ScalarType dtype;  ///< fp32 or bf16.
  int64_t lines;
  int64_t depth;
  int64_t line_step;  ///< From one line to the next; one of the steps is 1.
  int64_t depth_step;

  TileSource part(int64_t first_line, int64_t num_lines, int64_t first_depth,
                  int64_t num_depth) const;

  TileSource transposed() const { return {data, dtype, depth, lines, depth_step, line_step}; }
};

struct PackedShape {
  int64_t lines;
  int64_t lanes;
};

/// Copies lines as rows of T, and zeros behind them. Shapes: to [shape.lines, stride] of lanes.
template <typename T>
void pack_rows(const TileSource& from, PackedShape shape, float* to, int64_t stride);

/// Copies lines as columns of T, and zeros behind them. Shapes: to [shape.lanes, stride] of lanes.
template <typename T>
void pack_columns(const TileSource& from, PackedShape shape, float* to, int64_t stride);

/// Memory that a thread keeps, on the border of a cache line.
class TileMemory {
 public:
  /// Room for `count` numbers; what was there is lost if it was smaller.
  float* of(int64_t count) {
    const size_t num_lines = (static_cast<size_t>(count) * sizeof(float) + kLine - 1) / kLine;
    if (lines_.size() < num_lines) {
      lines_ = {};  // First, so that there are never both.
      lines_ = std::vector<Line>(num_lines);
    }
    return reinterpret_cast<float*>(lines_.data());
  }

 private:
  static constexpr size_t kLine = 64;
  struct alignas(kLine) Line {
    std::byte bytes[kLine];
  };

  std::vector<Line> lines_;
};

/// What a thread keeps for products and for packing from call to call.
struct ProductScratch {
  TileMemory first, second, sums;            // Of whole products that it begins.
  TileMemory tile_rows, tile_sums, packing;  // Of one tile.

  static ProductScratch& of_this_thread() {
    thread_local ProductScratch scratch;
    return scratch;
  }
};

}  // namespace temper
