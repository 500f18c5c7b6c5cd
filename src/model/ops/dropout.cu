// SPDX-License-Identifier: Apache-2.0
#include "model/ops/dropout_kernel.h"

namespace temper {

template void launch(const DropoutKernel<float>& kernel, void* stream);
template void launch(const DropoutKernel<Bf16>& kernel, void* stream);

}  // namespace temper
