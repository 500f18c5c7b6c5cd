// SPDX-License-Identifier: Apache-2.0
#include "model/ops/row_norms.h"

#include <ATen/ATen.h>

namespace temper {

// LibTorch deals whole rows to threads.
at::Tensor row_norms(const at::Tensor& matrix) { return at::linalg_vector_norm(matrix, 2, {1}); }

}  // namespace temper
