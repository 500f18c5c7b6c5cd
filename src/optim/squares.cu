// SPDX-License-Identifier: Apache-2.0
#include "optim/squares_kernel.h"

namespace temper {

template void launch(const SquaresKernel& kernel, void* stream);

}  // namespace temper
