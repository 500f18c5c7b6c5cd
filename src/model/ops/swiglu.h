// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

namespace temper {

/// silu(gate) * up. Shapes: gate_up [T, 2 n], gate first; returns [T, n].
/// Source: Shazeer, "GLU variants improve transformer", 2020.
at::Tensor swiglu(const at::Tensor& gate_up);

}  // namespace temper
