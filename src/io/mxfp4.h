// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "io/safetensors_file.h"

namespace temper {

/// Matrices in MXFP4, a matrix of each expert: numbers of four bits, 32 of a row by one scale,
/// which is a power of two. Read as what they stand for, transposed: so does transformers.
///
/// Source: Open Compute Project, "OCP Microscaling Formats (MX) specification", version 1.0, 2023,
///   section 5; convert_moe_packed_tensors of transformers 5.24.
class Mxfp4Matrices {
 public:
  static constexpr int64_t kBlock = 32;  ///< Numbers by one scale.

  struct Part {
    const SafetensorsFile* file = nullptr;
    const SafetensorsTensor* tensor = nullptr;
  };

  /// Shapes: codes U8 [count, out, in / 32, 16], the lower half of a byte first; scales U8
  ///   [count, out, in / 32].
  /// Throws: ModelError if they have others, or do not belong together.
  Mxfp4Matrices(Part codes, Part scales);

  std::vector<int64_t> shape() const { return {count_, in_, out_}; }

  /// As SafetensorsFile::read_floats, of the numbers in that shape. A scale that stands for no
  /// number makes numbers that are none.
  void read_floats(Range elements, std::span<float> floats) const;

 private:
  void read_matrix(int64_t number, Range elements, std::span<float> floats) const;

  Part codes_, scales_;
  int64_t count_ = 0, in_ = 0, out_ = 0;
};

}  // namespace temper
