// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "model/ops/tile_product.h"

namespace temper {

// Products of a matrix with few columns, as weights with the tokens that are generated: each number
// of the matrix is used a few times only, so that reading it takes most of the time. oneDNN's
// micro-kernels read what the last one left unread, and multiply as many columns as a vector has.
// These fetch the next rows while they multiply, and no more columns than there are.
//
// Each sum is added up in the order of theirs, and has the same bits.

/// Whether there are such kernels for the processor, and for this shape and the stride of a. Where
/// oneDNN adds up in another order than they, there are none.
template <typename T>
bool has_thin_tiles(const TileShape& shape, int64_t stride);

/// `multiply_tiles` for those shapes, where b has 16 columns of which `num_columns` count: the
/// others' sums are anything. Shapes: a [rows, depth], b [depth, 16] in lanes, c [rows, 16].
template <typename T>
void multiply_thin_tiles(const TileShape& shape, int64_t num_columns, TileFactor<T> a, const T* b,
                         TileSum c);

}  // namespace temper
