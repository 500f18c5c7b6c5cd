// SPDX-License-Identifier: Apache-2.0
#include "model/ops/rotary_kernel.h"

namespace temper {

template void launch(const RotaryKernel<float>& kernel, void* stream);
template void launch(const RotaryKernel<Bf16>& kernel, void* stream);

}  // namespace temper
