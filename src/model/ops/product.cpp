// SPDX-License-Identifier: Apache-2.0
#include "model/ops/product.h"

#include <ATen/ATen.h>
#include <ATen/record_function.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "model/ops/product_cut.h"
#include "model/ops/product_place.h"
#include "model/ops/product_terms.h"
#include "model/ops/rows.h"
#include "model/ops/thin_tiles.h"
#include "model/ops/tile_copy.h"
#include "model/ops/tile_product.h"

namespace temper {
namespace {

// Left to itself, a BLAS changes bits with the number of threads: oneDNN deals the depth out to
// them where the output has few blocks, MKL takes other kernels for what does not fill one. Here
// each sum is added up in one order, whoever computes it: tiles of the output are tasks, and each
// goes through the depth in blocks. Both factors come packed, the first one only where it does not
// lie in memory as the kernel reads it.

/// A product of tiles of T, and what is added to it.
template <typename T>
class TiledProduct {
 public:
  TiledProduct(const TileSource& first, const TileSource& second, const ProductPlace& place,
               ProductScales scales, std::span<const TileTerm> terms)
      : first_(first),
        second_(second),
        place_(place),
        scales_(scales),
        terms_(terms),
        is_packed_(!is_direct(first)),
        cut_({first.lines, second.lines, first.depth}, kPerLane<T>, is_packed_) {
    for (const TileTerm& term : terms_) {
      term_lanes_ = std::max(term_lanes_, padded_lanes(term.first));
    }
  }

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

    Range range() const { return {begin, begin + count}; }
  };

  // Whether the kernel reads it as it lies.
  static bool is_direct(const TileSource& factor) {
    return factor.depth_step == 1 && factor.dtype == c10::CppTypeToScalarType<T>::value &&
           factor.depth % kPerLane<T> == 0;
  }

  static int64_t padded_lanes(const TileSource& part) {
    return rounded_up(lanes_of<T>(part.depth), kLaneMultiple);
  }

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
    const TileSource from = source(first_, lines, lanes_in(block));
    pack_rows<T>(from, {lines.padded, padded_lanes(from)}, to, kRowStride);
  }

  void pack_panel_of(int64_t panel, int64_t block, float* to) const {
    const Lines lines = lines_of(second_, panel);
    const TileSource from = source(second_, lines, lanes_in(block));
    pack_columns<T>(from, {lines.padded, padded_lanes(from)}, to, lines.padded);
  }

  // The part of a term's factor for a tile of this one's, whose lines it begins at `first_line` of.
  static TileSource term_lines(const TileSource& factor, int64_t first_line, const Lines& lines) {
    const Range own = intersection({first_line, first_line + factor.lines}, lines.range());
    return factor.part(own.begin - first_line, own.size(), 0, factor.depth);
  }

  float* packed_term(const Piece& piece, int64_t panel, size_t term) const {
    const int64_t num_terms = std::ssize(terms_);
    const int64_t place = (panel - piece.panels.begin) * num_terms + static_cast<int64_t>(term);
    return panel_terms_ + place * kTile * term_lanes_;
  }

  void pack_terms_of(const Piece& piece, int64_t panel) const {
    const Lines lines = lines_of(second_, panel);
    for (size_t i = 0; i < terms_.size(); ++i) {
      const TileTerm& term = terms_[i];
      const TileSource from = term_lines(term.second, term.second_line, lines);
      if (from.lines == 0) continue;
      pack_columns<T>(from, {lines.padded, padded_lanes(from)}, packed_term(piece, panel, i),
                      lines.padded);
    }
  }

  void pack(const Piece& piece) {
    ProductScratch& memory = ProductScratch::of_this_thread();
    const int64_t num_blocks = piece.blocks.size();
    const bool has_panels =
        piece.panels.begin == packed_panels_.begin && num_blocks == cut_.num_blocks;
    const int64_t num_panels = has_panels ? 0 : piece.panels.size();
    const int64_t num_panel_tasks = num_panels * num_blocks;
    const int64_t num_row_tasks = is_packed_ ? piece.rows.size() * num_blocks : 0;
    const int64_t panel_size = piece.panels.size() * num_blocks * kTile * cut_.block_lanes;
    const int64_t terms_size = piece.panels.size() * std::ssize(terms_) * kTile * term_lanes_;
    panels_ = memory.second.of(panel_size + terms_size);
    panel_terms_ = panels_ + panel_size;
    if (is_packed_) rows_ = memory.first.of(num_row_tasks * kTile * kRowStride);
    packed_panels_ = piece.panels;
    const auto pack_part = [&](int64_t task) {
      if (task < num_row_tasks) {
        const int64_t tile = piece.rows.begin + task / num_blocks;
        const int64_t block = piece.blocks.begin + task % num_blocks;
        return pack_rows_of(tile, block, packed_rows(piece, tile, block));
      }
      task -= num_row_tasks;
      if (task >= num_panel_tasks) {
        return pack_terms_of(piece, piece.panels.begin + task - num_panel_tasks);
      }
      const int64_t panel = piece.panels.begin + task / num_blocks;
      const int64_t block = piece.blocks.begin + task % num_blocks;
      pack_panel_of(panel, block, packed_panel(piece, panel, block));
    };
    const int64_t num_parts = num_row_tasks + num_panel_tasks + num_panels;
    if (num_row_tasks == 0 && second_.lines <= kThin) {
      // Done before other threads would have begun.
      for (int64_t part = 0; part < num_parts; ++part) pack_part(part);
    } else {
      run_tasks(num_parts, pack_part);
    }
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
      if (piece.blocks.end == cut_.num_blocks) {
        place_.fetch(lines_of(first_, tile).range(), lines_of(second_, panel).range());
      }
      for (int64_t block = piece.blocks.begin; block < piece.blocks.end; ++block) {
        multiply_block(piece, tile, panel, block, sum);
      }
      if (piece.blocks.end < cut_.num_blocks) return;
      multiply_terms(piece, tile, panel, sum);
      write(tile, panel, sum);
    });
  }

  void multiply_block(const Piece& piece, int64_t tile, int64_t panel, int64_t block,
                      float* sum) const {
    const Lines rows = lines_of(first_, tile);
    const float* packed = is_packed_ ? packed_rows(piece, tile, block) : nullptr;
    multiply_part(source(first_, rows, lanes_in(block)), rows.padded, packed,
                  {packed_panel(piece, panel, block), lines_of(second_, panel)},
                  {sum, kTile, block > 0});
  }

  void multiply_terms(const Piece& piece, int64_t tile, int64_t panel, float* sum) const {
    const Lines rows = lines_of(first_, tile), columns = lines_of(second_, panel);
    for (size_t i = 0; i < terms_.size(); ++i) {
      const TileTerm& term = terms_[i];
      if (!term.covers(rows.range(), columns.range())) continue;
      multiply_part(term_lines(term.first, term.first_line, rows), rows.padded, nullptr,
                    {packed_term(piece, panel, i), columns}, {sum, kTile, true});
    }
  }

  struct PackedPanel {
    const float* data;
    Lines columns;
  };

  // One part of the depth. What is not packed is read as it lies, where the kernel can.
  void multiply_part(const TileSource& rows, int64_t padded, const float* packed, PackedPanel panel,
                     const TileSum& to) const {
    const auto* second = reinterpret_cast<const T*>(panel.data);
    if (packed == nullptr && is_direct(rows) && rows.lines == padded) {
      const TileShape shape{padded, panel.columns.padded, rows.depth};
      const TileFactor<T> first{static_cast<const T*>(rows.data), rows.line_step};
      if (has_thin_tiles<T>(shape, first.stride)) {
        return multiply_thin_tiles(shape, panel.columns.count, first, second, to);
      }
      return multiply_tiles(shape, first, second, to);
    }
    const int64_t lanes = padded_lanes(rows);
    if (packed == nullptr) {
      float* own = ProductScratch::of_this_thread().tile_rows.of(kTile * kRowStride);
      pack_rows<T>(rows, {padded, lanes}, own, kRowStride);
      packed = own;
    }
    multiply_tiles({padded, panel.columns.padded, lanes * kPerLane<T>},
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
  ProductPlace place_;
  ProductScales scales_;
  std::span<const TileTerm> terms_;
  int64_t term_lanes_ = 0;  // At most, of the depth of one.
  bool is_packed_;          // Whether the first factor has to be.
  ProductCut cut_;
  float* rows_ = nullptr;
  float* panels_ = nullptr;
  float* panel_terms_ = nullptr;  // [panel, term]
  Range packed_panels_{-1, -1};
};

template <typename T>
void multiply_tiled(TileSource first, TileSource second, ProductPlace place, ProductScales scales,
                    std::span<const ProductTerm> terms) {
  PlacedTerms placed(terms, second.lines, kPerLane<T>);
  // Few rows: what is packed had better be they than the other factor. And what lies across, and
  // is much the larger one, is packed faster as the second one.
  const bool has_few_rows = first.lines <= kThin && second.depth_step == 1;
  const bool has_few_columns =
      second.lines <= kTile && first.lines > kTile && first.depth_step != 1;
  if (has_few_rows || has_few_columns) {
    std::swap(first, second);
    std::swap(place.row_step, place.column_step);
    placed.transpose();
  }
  TiledProduct<T>(first, second, place, scales, placed.tiles()).run();
}

bool is_narrow(const at::Tensor& factor) { return factor.scalar_type() == at::kBFloat16; }

void multiply_on_cpu(const at::Tensor& out, const at::Tensor& a, const at::Tensor& b,
                     ProductScales scales, std::span<const ProductTerm> terms) {
  const TileSource first = rows_of(a), second = rows_of(b.t());
  const ProductPlace place{out.mutable_data_ptr(), out.scalar_type(), out.stride(0), 1};
  if ((is_narrow(a) || is_narrow(b)) && has_bfloat16_tiles()) {
    multiply_tiled<at::BFloat16>(first, second, place, scales, terms);
  } else {
    multiply_tiled<float>(first, second, place, scales, terms);
  }
}

}  // namespace

int64_t num_product_tasks(const ProductShape& shape) {
  const bool is_thin = shape.rows <= kThin;
  const ProductCut cut(is_thin ? ProductShape{shape.columns, shape.rows, shape.depth} : shape,
                       /*per_lane=*/1, /*packs_rows=*/false);
  return cut.rows_at_once * cut.panels_at_once;
}

int64_t product_bytes(std::span<const LinearShape> layers, at::ScalarType dtype, int num_threads) {
  const bool is_narrow = dtype == at::kBFloat16 && has_bfloat16_tiles();
  const int64_t per_lane = is_narrow ? kPerLane<at::BFloat16> : 1;
  int64_t rows = 0, panels = 0, sums = 0;
  const auto count = [&](const ProductShape& shape, bool packs_rows) {
    ProductCut cut(shape, per_lane, packs_rows);
    cut.rows_at_once = largest_part(divided_up(shape.rows, kTile), cut.rows_at_once);
    cut.panels_at_once = largest_part(divided_up(shape.columns, kTile), cut.panels_at_once);
    cut.blocks_at_once = largest_part(cut.num_blocks, cut.blocks_at_once);
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

void product_out(at::Tensor out, const at::Tensor& a, const at::Tensor& b, ProductScales scales,
                 std::span<const ProductTerm> terms) {
  if (out.numel() == 0) return;
  // For PyTorch's profiler, which knows the operators of LibTorch alone.
  RECORD_FUNCTION("temper::product", std::vector<c10::IValue>({out, a, b}));
  if (out.is_cpu()) return multiply_on_cpu(out, a, b, scales, terms);
  const auto add = [&](at::Tensor place, const ProductTerm& term, ProductScales factors) {
    const at::ScalarType dtype = out.scalar_type();
    place.addmm_(term.a.to(dtype), term.b.to(dtype), factors.keep, factors.scale);
  };
  add(out, {a, b}, scales);
  for (const ProductTerm& term : terms) {
    add(out.narrow(1, term.first_column, term.b.size(1)), term, {scales.scale, 1.0F});
  }
}

at::Tensor product(const at::Tensor& a, const at::Tensor& b) {
  at::Tensor out = at::empty({a.size(0), b.size(1)}, a.options());
  product_out(out, a, b);
  return out;
}

}  // namespace temper
