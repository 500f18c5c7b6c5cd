// SPDX-License-Identifier: Apache-2.0
#include "model/ops/mlp_activation_kernel.h"

namespace temper {

template void launch(const MlpActivationKernel<float>& kernel, void* stream);
template void launch(const MlpActivationKernel<Bf16>& kernel, void* stream);
template void launch(const MlpActivationBackwardKernel<float>& kernel, void* stream);
template void launch(const MlpActivationBackwardKernel<Bf16>& kernel, void* stream);

}  // namespace temper
