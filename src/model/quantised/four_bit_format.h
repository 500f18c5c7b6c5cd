// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>

namespace temper {

enum class FourBitKind { kNf4, kFp4 };

/// How a tensor is stored in four bits an element: blocks of elements that follow each other in its
/// flat row-major order, each with one fp32 scale, its largest absolute value ("absmax").
///
/// An element is the nearest of 16 values times its block's absmax. Two codes share a byte, the
/// first element in the high nibble; an odd count is padded with the code of 0. Blocks run over the
/// borders of rows; the last one may be partial. In a block of zeros each code is that of 0.0:
/// index 7 of NF4, 0 of FP4.
/// Source: Dettmers et al., "QLoRA", 2023; in the last bit as bitsandbytes 0.50.2 on a CPU.
struct FourBitFormat {
  FourBitKind kind = FourBitKind::kNf4;
  int64_t block_size = 64;  ///< Elements: a power of two from 32 to 4096.

  int64_t num_blocks(int64_t size) const { return (size + block_size - 1) / block_size; }
  static int64_t num_bytes(int64_t size) { return (size + 1) / 2; }

  /// Throws: std::invalid_argument, where bitsandbytes has no such block size.
  void require_valid() const;
};

/// The value of each code. Those of NF4 ascend; FP4 has sign, exponent and mantissa, and two zeros.
const std::array<float, 16>& four_bit_values(FourBitKind kind);

/// The search for the nearest value.
struct FourBitSearch {
  std::array<uint8_t, 16> codes;    // In ascending order of value.
  std::array<float, 15> midpoints;  // In fp32; a number strictly above one is past it.
};
const FourBitSearch& four_bit_search(FourBitKind kind);

}  // namespace temper
