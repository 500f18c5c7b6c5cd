// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "core/range.h"
#include "model/ops/product.h"
#include "model/ops/tile_product.h"

namespace temper {

/// The rows of a matrix as lines. One of a single row or column may have any stride there.
TileSource rows_of(const at::Tensor& matrix);

/// A product that is added to a part of another one; its depth is that of one block at most.
struct TileTerm {
  TileSource first, second;
  int64_t first_line, second_line;  ///< Of the other product's factors, where this one's begin.

  bool covers(Range lines_of_first, Range lines_of_second) const {
    return !intersection({first_line, first_line + first.lines}, lines_of_first).is_empty() &&
           !intersection({second_line, second_line + second.lines}, lines_of_second).is_empty();
  }
};

/// The terms of a product of `num_columns`, made so that each begins and ends where tiles do, or
/// where the product ends, and has no more depth than a block.
class PlacedTerms {
 public:
  PlacedTerms(std::span<const ProductTerm> terms, int64_t num_columns, int64_t per_lane);

  /// Those of the transposed product.
  void transpose();

  const std::vector<TileTerm>& tiles() const { return tiles_; }

 private:
  std::vector<ProductTerm> placed_;  // What the tiles lie in.
  std::vector<TileTerm> tiles_;
};

}  // namespace temper
