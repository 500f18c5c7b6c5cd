// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>

#include "model/quantised/four_bit_format.h"

namespace temper {

/// Quantises a tensor, or the part of one from one block's border to another or to the end: each
/// part gives the bytes that the whole gives there.
///
/// The caller refuses numbers that are not finite: `all_finite` of the absmax tells whether there
/// is one in any block.
/// Shapes: values [n], contiguous on the CPU, fp32, bf16 or fp16; codes [(n + 1) / 2]; absmax
///   [num_blocks(n)].
/// Throws: std::invalid_argument, for other shapes and dtypes.
void quantise(const at::Tensor& values, const FourBitFormat& format, std::span<uint8_t> codes,
              std::span<float> absmax);

}  // namespace temper
