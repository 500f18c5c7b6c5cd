// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

#include "model/quantised/dynamic_map.h"

namespace temper {

/// Numbers of at most 256, in 8 bits each: the nearest values of a dynamic map, times one scale.
///
/// What was decoded encodes to the same codes and scale again. For that the signed map begins at
/// -1, where bitsandbytes' begins at -0.993: the largest number of a block is exact whatever its
/// sign. And of a second moment, which the unsigned map is for, no number above zero becomes zero:
/// a step divides by its root, so that it takes the smallest code instead.
/// Source: Dettmers et al., "8-bit optimizers via block-wise quantization", arXiv:2110.02861,
///   sections 2.1 and 2.2; else as bitsandbytes' quantize_blockwise computes it.
class EightBitCodes {
 public:
  static constexpr int64_t kBlockSize = 256;

  explicit EightBitCodes(MapSign sign);

  /// The codes of one block; returns its scale. That is 0 for a block whose numbers are all nothing
  /// beside any epsilon: the products of code and scale would lose bits. Shapes: both [n].
  float encode(std::span<const float> numbers, std::span<uint8_t> codes) const;

  /// Shapes: both [n].
  void decode(std::span<const uint8_t> codes, float scale, std::span<float> numbers) const;

 private:
  static constexpr uint32_t kFirstBin = 0x3300;  // Upper half of 2^-25: no bound lies below.
  static constexpr uint32_t kNumBins = 0x3F80 - kFirstBin + 1;  // Up to that of 1.

  static float largest(std::span<const float> numbers);
  void fill_bins();

  float values_[256];           // [code], ascending
  float bounds_[256];           // [code], the largest number that takes it; the last is infinite
  int32_t bins_[2 * kNumBins];  // Those of positive numbers, then of negative ones: the least code.
};

/// The same for all moments of one kind, made once.
const EightBitCodes& eight_bit_codes(MapSign sign);

}  // namespace temper
