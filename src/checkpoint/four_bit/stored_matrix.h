// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "checkpoint/model_folder.h"
#include "io/safetensors_folder.h"
#include "model/quantised/quantised_absmax.h"
#include "model/unit_layout.h"
#include "zero/quantisation_options.h"

namespace temper {

/// A matrix that bitsandbytes quantised, in the tensors of a model's folder: what belongs to its
/// codes is read and checked, codes and scales are read where and when asked.
class StoredMatrix {
 public:
  /// The folder has the tensors of `four_bit_specs`, and outlives this object.
  /// Throws: ModelError that names the tensor if its state is damaged or of other blocks, type or
  ///   shape, or the values of its codes are not those that are computed with here.
  StoredMatrix(const SafetensorsFolder& weights, const TensorSlot& slot,
               const QuantisationOptions& options);

  /// What the matrix was before.
  DType dtype() const { return dtype_; }

  /// The scales' own scales, without codes; empty unless the scales are quantised.
  const QuantisedAbsmax& nested() const { return nested_; }

  /// Reads whole blocks. Shapes: codes [elements.size() / 2]; scales: bytes of the blocks' scales
  ///   as they are stored, fp32 or codes.
  /// Throws: ModelError if a scale is not finite.
  void read(Range elements, std::span<uint8_t> codes, std::span<uint8_t> scales) const;

 private:
  void read_state();
  void require_values(const std::string& suffix, std::span<const float> wanted) const;
  void read_bytes(const std::string& suffix, int64_t offset, std::span<std::byte> bytes) const;
  [[noreturn]] void refuse(const std::string& suffix, const std::string& problem) const;

  const SafetensorsFolder& weights_;
  std::string name_;
  std::vector<int64_t> shape_;
  QuantisationOptions options_;
  DType dtype_ = DType::kF32;
  QuantisedAbsmax nested_;
};

/// What method qlora computes with in the place of a matrix of a block, in fp32: the matrix in four
/// bits, as the folder stores it or, of a dense one, as it is quantised while loading.
/// Throws: ModelError if a number is not finite.
at::Tensor dequantised_matrix(const ModelFolder& base, const TensorSlot& slot,
                              const QuantisationOptions& options);

}  // namespace temper
