// SPDX-License-Identifier: Apache-2.0
#include "model/ops/product.h"

#include <ATen/ATen.h>
#include <ATen/record_function.h>

#include <algorithm>
#include <utility>

#include "model/ops/rows.h"
#include "model/ops/tile_copy.h"
#include "model/ops/tile_product.h"

// LibTorch carries a BLAS with the usual Fortran interface, but its headers do not declare it.
// ATen's own products cost microseconds of dispatch each, too much for tiles.
extern "C" void sgemm_(const char* transpose_a, const char* transpose_b, const int* m, const int* n,
                       const int* k, const float* alpha, const float* a, const int* lda,
                       const float* b, const int* ldb, const float* beta, float* c, const int* ldc);

namespace temper {
namespace {

// Left to itself, a BLAS changes bits with the number of threads: oneDNN deals the depth out to
// them where the output has few blocks, MKL takes other kernels for what does not fill one. Here
// each sum is added up in one order, whoever computes it: tiles of the output are tasks, and each
// goes through the depth in blocks. Both factors come packed, the first one only where it does not
// lie in memory as the kernel reads it.

constexpr int64_t kTile = 64;           // Rows and columns.
constexpr int64_t kTileMultiple = 16;   // Of rows and columns of smaller ones: few kernels.
constexpr int64_t kLaneMultiple = 16;   // As above.
constexpr int64_t kLanesAtOnce = 3072;  // Of depth, for which factors are packed together.
constexpr int64_t kRowTilesAtOnce = 64;
constexpr int64_t kPackedFloats = 3 << 20;  // 12 MiB of each factor, in the cache of all cores.
constexpr int64_t kThin = 16;

// Of depth, at most, in a block: few enough that tiles stay in the cache, and in fp32 that sums of
// so many terms, which are then added up, lose no more than those of the usual libraries.
constexpr int64_t most_lanes(int64_t per_lane) { return per_lane == 1 ? 128 : 384; }

// Of packed rows: no power of two, whose rows would share few places in the cache.
constexpr int64_t row_stride(int64_t per_lane) { return most_lanes(per_lane) + kLaneMultiple; }

int64_t divided_up(int64_t size, int64_t part) { return (size + part - 1) / part; }
int64_t rounded_up(int64_t size, int64_t multiple) { return divided_up(size, multiple) * multiple; }

// Calls function(range) for as few equal parts of a range as have at most `most` each.
template <typename Function>
void for_equal_parts(int64_t size, int64_t most, Function function) {
  const int64_t num_parts = divided_up(size, most);
  for (int64_t i = 0; i < num_parts; ++i) {
    function(Range{i * size / num_parts, (i + 1) * size / num_parts});
  }
}

// How a product is cut: what is packed at once. Depends on the shape and what is multiplied alone.
struct Cut {
  int64_t num_lanes, num_blocks, block_lanes;  // Of the depth.
  int64_t blocks_at_once, panels_at_once, rows_at_once, tile_rows;

  Cut(const ProductShape& shape, int64_t per_lane, bool packs_rows)
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

// Where the sums go.
struct Place {
  void* data;
  at::ScalarType dtype;
  int64_t row_step, column_step;

  template <typename T>
  T* at(int64_t row, int64_t column) const {
    return static_cast<T*>(data) + row * row_step + column * column_step;
  }
};

// What one row of a tile becomes.
template <typename T>
void scale_sums(float* sums, int64_t count, const T* before, ProductScales scales) {
  if (scales.keep != 0.0F) {
    float wide[kTile];
    const float* kept = read_row(before, wide, count);
    for (int64_t i = 0; i < count; ++i) sums[i] = scales.scale * sums[i] + scales.keep * kept[i];
  } else if (scales.scale != 1.0F) {
    for (int64_t i = 0; i < count; ++i) sums[i] *= scales.scale;
  }
}

// Writes a tile, [rows, columns] of sums, which change.
template <typename T>
void write_tile(float* sums, ProductShape shape, int64_t row_step, T* to, ProductScales scales) {
  for (int64_t i = 0; i < shape.rows; ++i) {
    scale_sums(sums + i * kTile, shape.columns, to + i * row_step, scales);
  }
  if constexpr (std::is_same_v<T, float>) {
    for (int64_t i = 0; i < shape.rows; ++i) {
      std::copy_n(sums + i * kTile, shape.columns, to + i * row_step);
    }
  } else {
    round_tile({sums, shape.rows, shape.columns, kTile}, to, row_step);
  }
}

// The same where the place's columns are dense: as rows, what is there included.
template <typename T>
void write_turned_tile(const float* sums, ProductShape shape, int64_t column_step, T* to,
                       ProductScales scales) {
  float turned[kTile * kTile];
  transpose_tile({sums, shape.rows, shape.columns, kTile}, turned, kTile);
  write_tile(turned, {shape.columns, shape.rows, 0}, column_step, to, scales);
}

/// A product of tiles of T.
template <typename T>
class TiledProduct {
 public:
  TiledProduct(const TileSource& first, const TileSource& second, const Place& place,
               ProductScales scales)
      : first_(first),
        second_(second),
        place_(place),
        scales_(scales),
        is_packed_(first.depth_step != 1 || first.dtype != c10::CppTypeToScalarType<T>::value ||
                   first.depth % kPerLane<T> != 0),
        cut_({first.lines, second.lines, first.depth}, kPerLane<T>, is_packed_) {}

  void run() {
    for_equal_parts(divided_up(second_.lines, kTile), cut_.panels_at_once, [&](Range panels) {
      for_equal_parts(divided_up(first_.lines, kTile), cut_.rows_at_once, [&](Range rows) {
        for_equal_parts(cut_.num_blocks, cut_.blocks_at_once, [&](Range depth) {
          pack({rows, panels, depth});
          multiply({rows, panels, depth});
        });
      });
    });
  }

 private:
  static constexpr int64_t kRowStride = row_stride(kPerLane<T>);

  // Tiles of rows and columns, and blocks of the depth.
  struct Piece {
    Range rows, panels, blocks;
  };
  struct Lines {
    int64_t begin, count, padded;
  };

  static Lines lines_of(const TileSource& factor, int64_t tile) {
    const int64_t begin = tile * kTile, count = std::min(kTile, factor.lines - begin);
    return {begin, count, rounded_up(count, kTileMultiple)};
  }

  Range lanes_in(int64_t block) const {
    return {block * cut_.block_lanes, std::min((block + 1) * cut_.block_lanes, cut_.num_lanes)};
  }

  TileSource source(const TileSource& factor, const Lines& lines, Range lanes) const {
    const int64_t begin = lanes.begin * kPerLane<T>;
    const int64_t end = std::min(lanes.end * kPerLane<T>, factor.depth);
    return factor.part(lines.begin, lines.count, begin, end - begin);
  }

  float* packed_rows(const Piece& piece, int64_t tile, int64_t block) const {
    const int64_t place = (tile - piece.rows.begin) * piece.blocks.size() + block;
    return rows_ + (place - piece.blocks.begin) * kTile * kRowStride;
  }

  float* packed_panel(const Piece& piece, int64_t panel, int64_t block) const {
    const int64_t place = (panel - piece.panels.begin) * piece.blocks.size() + block;
    return panels_ + (place - piece.blocks.begin) * kTile * cut_.block_lanes;
  }

  void pack_rows_of(int64_t tile, int64_t block, float* to) const {
    const Lines lines = lines_of(first_, tile);
    const Range lanes = lanes_in(block);
    pack_rows<T>(source(first_, lines, lanes),
                 {lines.padded, rounded_up(lanes.size(), kLaneMultiple)}, to, kRowStride);
  }

  void pack(const Piece& piece) {
    ProductScratch& memory = ProductScratch::of_this_thread();
    const int64_t num_blocks = piece.blocks.size();
    const bool has_panels =
        piece.panels.begin == packed_panels_.begin && num_blocks == cut_.num_blocks;
    const int64_t num_panel_tasks = has_panels ? 0 : piece.panels.size() * num_blocks;
    const int64_t num_row_tasks = is_packed_ ? piece.rows.size() * num_blocks : 0;
    panels_ = memory.second.of(piece.panels.size() * num_blocks * kTile * cut_.block_lanes);
    if (is_packed_) rows_ = memory.first.of(num_row_tasks * kTile * kRowStride);
    packed_panels_ = piece.panels;
    run_tasks(num_panel_tasks + num_row_tasks, [&](int64_t task) {
      if (task < num_row_tasks) {
        const int64_t tile = piece.rows.begin + task / num_blocks;
        const int64_t block = piece.blocks.begin + task % num_blocks;
        return pack_rows_of(tile, block, packed_rows(piece, tile, block));
      }
      const int64_t panel = piece.panels.begin + (task - num_row_tasks) / num_blocks;
      const int64_t block = piece.blocks.begin + (task - num_row_tasks) % num_blocks;
      const Lines lines = lines_of(second_, panel);
      const Range lanes = lanes_in(block);
      pack_columns<T>(source(second_, lines, lanes),
                      {lines.padded, rounded_up(lanes.size(), kLaneMultiple)},
                      packed_panel(piece, panel, block), lines.padded);
    });
  }

  void multiply(const Piece& piece) {
    const bool is_whole = piece.blocks.size() == cut_.num_blocks;
    const int64_t num_rows = piece.rows.size(), num_panels = piece.panels.size();
    const int64_t num_tiles = num_rows * num_panels;
    float* sums =
        is_whole ? nullptr : ProductScratch::of_this_thread().sums.of(num_tiles * kTile * kTile);
    run_tasks(num_tiles, [&](int64_t task) {
      // The fewer of both come again and again, and stay in the cache.
      const bool has_few_rows = num_rows <= num_panels;
      const int64_t row = has_few_rows ? task % num_rows : task / num_panels;
      const int64_t tile = piece.rows.begin + row;
      const int64_t panel =
          piece.panels.begin + (has_few_rows ? task / num_rows : task % num_panels);
      float* sum = is_whole ? ProductScratch::of_this_thread().tile_sums.of(kTile * kTile)
                            : sums + task * kTile * kTile;
      for (int64_t block = piece.blocks.begin; block < piece.blocks.end; ++block) {
        multiply_block(piece, tile, panel, block, sum);
      }
      if (piece.blocks.end == cut_.num_blocks) write(tile, panel, sum);
    });
  }

  void multiply_block(const Piece& piece, int64_t tile, int64_t panel, int64_t block,
                      float* sum) const {
    const Lines rows = lines_of(first_, tile), columns = lines_of(second_, panel);
    const Range lanes = lanes_in(block);
    const auto* second = reinterpret_cast<const T*>(packed_panel(piece, panel, block));
    const TileSum to{sum, kTile, block > 0};
    const bool is_direct = !is_packed_ && rows.count == rows.padded;
    if (is_direct) {
      const TileSource from = source(first_, rows, lanes);
      multiply_tiles({rows.count, columns.padded, from.depth},
                     TileFactor<T>{static_cast<const T*>(from.data), from.line_step}, second, to);
      return;
    }
    float* packed = rows_ != nullptr ? packed_rows(piece, tile, block) : nullptr;
    if (packed == nullptr) {
      packed = ProductScratch::of_this_thread().tile_rows.of(kTile * kRowStride);
      pack_rows_of(tile, block, packed);
    }
    const int64_t depth = rounded_up(lanes.size(), kLaneMultiple) * kPerLane<T>;
    multiply_tiles({rows.padded, columns.padded, depth},
                   TileFactor<T>{reinterpret_cast<const T*>(packed), kRowStride * kPerLane<T>},
                   second, to);
  }

  void write(int64_t tile, int64_t panel, float* sum) const {
    const Lines rows = lines_of(first_, tile), columns = lines_of(second_, panel);
    dispatch_dtype(place_.dtype, [&](auto element) {
      using Out = decltype(element);
      Out* to = place_.at<Out>(rows.begin, columns.begin);
      const ProductShape shape{rows.count, columns.count, 0};
      if (place_.column_step == 1) {
        write_tile(sum, shape, place_.row_step, to, scales_);
      } else {
        write_turned_tile(sum, shape, place_.column_step, to, scales_);
      }
    });
  }

  TileSource first_, second_;
  Place place_;
  ProductScales scales_;
  bool is_packed_;  // Whether the first factor has to be.
  Cut cut_;
  float* rows_ = nullptr;
  float* panels_ = nullptr;
  Range packed_panels_{-1, -1};
};

// The rows of a matrix as lines. One of a single row or column may have any stride there.
TileSource rows_of(const at::Tensor& matrix) {
  const bool is_dense = matrix.stride(1) == 1 || matrix.size(1) == 1;
  return {matrix.const_data_ptr(),
          matrix.scalar_type(),
          matrix.size(0),
          matrix.size(1),
          is_dense ? matrix.stride(0) : 1,
          is_dense ? 1 : matrix.stride(1)};
}

void multiply_on_cpu(const at::Tensor& out, const at::Tensor& a, const at::Tensor& b,
                     ProductScales scales) {
  TileSource first = rows_of(a), second = rows_of(b.t());
  Place place{out.mutable_data_ptr(), out.scalar_type(), out.stride(0), 1};
  // Few rows: what is packed had better be they than the other factor.
  if (first.lines <= kThin && second.depth_step == 1) {
    std::swap(first, second);
    std::swap(place.row_step, place.column_step);
  }
  const bool is_narrow = first.dtype == at::kBFloat16 && second.dtype == at::kBFloat16;
  if (is_narrow && has_bfloat16_tiles()) {
    TiledProduct<at::BFloat16>(first, second, place, scales).run();
  } else {
    TiledProduct<float>(first, second, place, scales).run();
  }
}

}  // namespace

void multiply(const MatrixView& a, const MatrixView& b, const MatrixView& c, ProductScales scales) {
  // BLAS sees columns where we have rows: it computes the transpose, c' = b' a'.
  const int m = static_cast<int>(c.columns), n = static_cast<int>(c.rows);
  const int k = static_cast<int>(a.columns);
  const int lda = static_cast<int>(b.stride), ldb = static_cast<int>(a.stride);
  const int ldc = static_cast<int>(c.stride);
  sgemm_(b.is_transposed ? "T" : "N", a.is_transposed ? "T" : "N", &m, &n, &k, &scales.scale,
         b.data, &lda, a.data, &ldb, &scales.keep, c.data, &ldc);
}

int64_t num_product_tasks(const ProductShape& shape) {
  const bool is_thin = shape.rows <= kThin;
  const Cut cut(is_thin ? ProductShape{shape.columns, shape.rows, shape.depth} : shape,
                /*per_lane=*/1, /*packs_rows=*/false);
  return cut.rows_at_once * cut.panels_at_once;
}

int64_t product_bytes(std::span<const LinearShape> layers, at::ScalarType dtype, int num_threads) {
  const bool is_narrow = dtype == at::kBFloat16 && has_bfloat16_tiles();
  const int64_t per_lane = is_narrow ? kPerLane<at::BFloat16> : 1;
  int64_t rows = 0, panels = 0, sums = 0;
  const auto count = [&](const ProductShape& shape, bool packs_rows) {
    const Cut cut(shape, per_lane, packs_rows);
    if (packs_rows) rows = std::max(rows, cut.packed_rows());
    panels = std::max(panels, cut.packed_panels());
    sums = std::max(sums, cut.sums());
  };
  for (const auto& [tokens, out, in, is_trained] : layers) {
    const bool converts = per_lane == 1 && dtype != at::kFloat;
    count({tokens, out, in}, converts);
    count({tokens, in, out}, converts);
    if (is_trained) count({out, in, tokens}, /*packs_rows=*/true);
  }
  constexpr int64_t kOfThread = kTile * (kTile + row_stride(2) + most_lanes(2));
  return (rows + panels + sums + num_threads * kOfThread) * static_cast<int64_t>(sizeof(float));
}

void product_out(at::Tensor out, const at::Tensor& a, const at::Tensor& b, ProductScales scales) {
  if (out.numel() == 0) return;
  // For PyTorch's profiler, which knows the operators of LibTorch alone.
  RECORD_FUNCTION("temper::product", std::vector<c10::IValue>({out, a, b}));
  if (!out.is_cpu()) {
    out.addmm_(a.to(out.scalar_type()), b.to(out.scalar_type()), scales.keep, scales.scale);
    return;
  }
  multiply_on_cpu(out, a, b, scales);
}

at::Tensor product(const at::Tensor& a, const at::Tensor& b) {
  at::Tensor out = at::empty({a.size(0), b.size(1)}, a.options());
  product_out(out, a, b);
  return out;
}

}  // namespace temper
