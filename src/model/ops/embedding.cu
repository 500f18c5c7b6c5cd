// SPDX-License-Identifier: Apache-2.0
#include "model/ops/embedding_kernel.h"

namespace temper {

template void launch(const EmbeddingKernel<float>& kernel, void* stream);
template void launch(const EmbeddingKernel<Bf16>& kernel, void* stream);

}  // namespace temper
