// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include "checkpoint/model_folder.h"

namespace temper {

/// What method qlora computes with in the place of a matrix of a block, in fp32: the matrix in four
/// bits, as the folder stores it or, of a dense one, as it is quantised while loading.
/// Throws: ModelError if a number is not finite.
at::Tensor dequantised_matrix(const ModelFolder& base, const TensorSlot& slot,
                              const QuantisationOptions& options);

}  // namespace temper
