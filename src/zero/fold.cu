// SPDX-License-Identifier: Apache-2.0
#include "zero/fold_kernel.h"

namespace temper {

template void launch(const FoldKernel<float>& kernel, void* stream);
template void launch(const FoldKernel<Bf16>& kernel, void* stream);

}  // namespace temper
