// SPDX-License-Identifier: Apache-2.0
#include "model/ops/product_terms.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "model/ops/product_cut.h"

namespace temper {
namespace {

// The same term, but one that begins and ends where tiles do, with zeros in between, or where the
// product ends.
ProductTerm on_tiles(const ProductTerm& term, int64_t num_columns) {
  const int64_t count = term.b.size(1), end = term.first_column + count;
  const int64_t first = term.first_column / kTile * kTile;
  const int64_t last = std::min(rounded_up(end, kTile), num_columns);
  if (first == term.first_column && last == end) return term;
  const at::Tensor wide = at::zeros({last - first, term.b.size(0)}, term.b.options());
  wide.narrow(0, term.first_column - first, count).copy_(term.b.t());
  return {term.a, wide.t(), first};
}

}  // namespace

TileSource rows_of(const at::Tensor& matrix) {
  const bool is_dense = matrix.stride(1) == 1 || matrix.size(1) == 1;
  return {matrix.const_data_ptr(),
          matrix.scalar_type(),
          matrix.size(0),
          matrix.size(1),
          is_dense ? matrix.stride(0) : 1,
          is_dense ? 1 : matrix.stride(1)};
}

PlacedTerms::PlacedTerms(std::span<const ProductTerm> terms, int64_t num_columns,
                         int64_t per_lane) {
  for (const ProductTerm& term : terms) {
    const ProductTerm& placed = placed_.emplace_back(on_tiles(term, num_columns));
    const TileSource first = rows_of(placed.a), second = rows_of(placed.b.t());
    for_equal_parts(divided_up(first.depth, per_lane), most_lanes(per_lane), [&](Range lanes) {
      const int64_t begin = lanes.begin * per_lane;
      const int64_t size = std::min(lanes.end * per_lane, first.depth) - begin;
      tiles_.push_back({first.part(0, first.lines, begin, size),
                        second.part(0, second.lines, begin, size), 0, placed.first_column});
    });
  }
}

void PlacedTerms::transpose() {
  for (TileTerm& term : tiles_) {
    std::swap(term.first, term.second);
    std::swap(term.first_line, term.second_line);
  }
}

}  // namespace temper
