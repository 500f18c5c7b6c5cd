// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace temper {

// Products of fp32 tiles within one thread's cache, c = a b, by oneDNN's micro-kernels, which use
// the widest vectors of any maker's processor. All are row-major.

/// A kernel is compiled for each shape and stride, and kept by each thread: there must be few.
struct TileShape {
  int64_t rows;
  int64_t columns;
  int64_t depth;
};

struct TileFactor {
  const float* data;
  int64_t stride;  ///< Between rows.
};

struct TileSum {
  float* data;
  int64_t stride;
  bool is_begun;  ///< Whether to add to what is there.
};

/// Shapes: a [rows, depth], b [depth, columns] dense, c [rows, columns].
void multiply_tiles(const TileShape& shape, TileFactor a, const float* b, TileSum c);

struct TileMatrix {
  const float* data;
  int64_t rows;
  int64_t columns;
  int64_t stride;
};
/// to[j][i] = from[i][j].
void transpose_tile(const TileMatrix& from, float* to, int64_t to_stride);

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

}  // namespace temper
