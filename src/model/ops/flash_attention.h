// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include "model/ops/attention.h"

namespace temper {

/// Whether LibTorch has a fused kernel for packed documents of such a projection on its device.
/// CUDA's is for bf16 and heads of up to 256 numbers, a multiple of 8, without bounds, on cards
/// from sm_80 on.
bool has_flash_attention(const at::Tensor& qkv, const Heads& heads);

/// What `attention` returns, by one launch for all documents, and a few for the gradient, which is
/// added up in a fixed order. Shapes: qkv [T, columns]; returns [T, query_columns].
/// Source: Dao, "FlashAttention-2", 2023.
at::Tensor flash_attention(const at::Tensor& qkv, const Heads& heads, const AttentionMask& mask);

}  // namespace temper
