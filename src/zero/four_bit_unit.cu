// SPDX-License-Identifier: Apache-2.0
#include "zero/four_bit_kernel.h"

namespace temper {

template void launch(const FourBitKernel<float>& kernel, void* stream);
template void launch(const FourBitKernel<Bf16>& kernel, void* stream);

}  // namespace temper
