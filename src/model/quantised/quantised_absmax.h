// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace temper {

/// The scales of a whole tensor's blocks, quantised themselves ("double quantization"): what
/// exceeds their mean, in blocks of 256, each with an absmax of its own.
/// Source: Dettmers et al., "QLoRA", 2023; in the last bit as bitsandbytes 0.50.2 on a CPU.
struct QuantisedAbsmax {
  static constexpr int64_t kBlockSize = 256;

  std::vector<uint8_t> codes;  // [num_blocks], into the signed dynamic map
  std::vector<float> absmax;   // [ceil(num_blocks / 256)], of the differences from the offset
  float offset = 0.0F;
};

/// Shapes: absmax [num_blocks] of all of a tensor, since they have one mean. Not empty.
///
/// The mean is the one that a single thread of torch computes; more of them may add in another
/// order. A code is the nearest value only to 1 in 65536: bitsandbytes' CPU library rounds to that
/// before it searches. Its CUDA kernels do not, and choose a neighbour for 1 scale in 600.
QuantisedAbsmax quantise_absmax(std::span<const float> absmax);

/// Shapes: out [num_blocks].
/// Throws: std::invalid_argument, for another shape.
void dequantise_absmax(const QuantisedAbsmax& quantised, std::span<float> out);

}  // namespace temper
