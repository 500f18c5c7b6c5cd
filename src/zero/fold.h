// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

namespace temper {

/// Whether a fold begins a step's gradient or goes on with it.
enum class FoldStart { kFresh, kAdd };

/// Adds `num_blocks` blocks to `sum` one after the other: ((sum + block 0) + block 1) + …
///
/// In fp32, element by element: the same bits however elements are cut over ranks and threads.
/// kFresh begins with block 0 in place of `sum`.
/// Shapes: blocks [num_blocks * n] fp32 or bf16, sum [n] fp32; both contiguous.
void fold_blocks(const at::Tensor& blocks, int num_blocks, at::Tensor sum, FoldStart start);

}  // namespace temper
