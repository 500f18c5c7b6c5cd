// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

namespace temper {

/// Keys and values of the tokens a block has seen so far, for generation.
struct KeyValueCache {
  at::Tensor keys;    ///< [num_tokens, num_key_value_heads, head_dim], after the rotation.
  at::Tensor values;  ///< The same shape.
};

}  // namespace temper
