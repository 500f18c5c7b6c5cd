// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>

#include "model/quantised/four_bit_format.h"

namespace temper {

/// The blocks of a tensor, or the part of one from one block's border to another or to the end.
struct QuantisedBlocks {
  std::span<const uint8_t> codes;  // [(n + 1) / 2]
  std::span<const float> absmax;   // [num_blocks(n)], finite
};

/// Writes value * absmax, rounded once to fp32 and then to the dtype of `out`. The bits depend
/// neither on the number of threads nor on where a tensor is cut into parts.
/// Shapes: out [n], contiguous on the CPU, fp32 or bf16: a tensor's place in its unit's buffer.
/// Throws: std::invalid_argument, for other shapes and dtypes.
void dequantise(const QuantisedBlocks& blocks, const FourBitFormat& format, const at::Tensor& out);

}  // namespace temper
