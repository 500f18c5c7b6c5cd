// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include "model/ops/matrix.h"

namespace temper {

/// out = scale * a b + keep * out, with the same bits for any number of threads: cut into rows of
/// `out` at borders that depend on the shape alone, each part computed by one thread.
///
/// A BLAS makes no such promise. The one in LibTorch 2.11.0, from three threads on, changes the
/// bits of products with, for instance, 36 columns, however many rows they have.
/// Shapes: a [m, k], b [k, n], out [m, n], all fp32; each is dense in one of its dimensions, and
///   `out` in its rows.
void tiled_product(at::Tensor out, const at::Tensor& a, const at::Tensor& b,
                   ProductScales scales = {});

}  // namespace temper
