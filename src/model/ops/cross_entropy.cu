// SPDX-License-Identifier: Apache-2.0
#include "model/ops/cross_entropy_kernel.h"

namespace temper {

template void launch(const CrossEntropyKernel<float>& kernel, void* stream);
template void launch(const CrossEntropyKernel<Bf16>& kernel, void* stream);

}  // namespace temper
