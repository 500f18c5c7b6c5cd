// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include "model/ops/attention.h"
#include "model/weight.h"

namespace temper {

/// How a row is normed.
struct NormKind {
  bool is_centred = false;       ///< LayerNorm: its mean is taken away first; else RMSNorm.
  bool adds_one = false;         ///< The factor is 1 + weight.
  bool has_scale = true;         ///< It is multiplied with a weight.
  bool has_bias = false;         ///< A bias is added.
  bool is_rounded_once = false;  ///< Else to the compute dtype before the weight, too.
  double epsilon = 1e-6;
};

struct NormWeights {
  Weight scale;             ///< [n]
  Weight bias;              ///< [n]; undefined where there is none.
  bool is_without = false;  ///< There is a norm, but it has no weights.

  bool is_defined() const { return is_without || scale.is_defined(); }
};

/// (x - mean) / deviation * scale + bias, over each row, in fp32; of these what the kind says.
///
/// The backward pass writes the weights' gradients.
/// Shapes: x [T, n]; returns [T, n].
/// Source: Ba et al., "Layer normalization", 2016; Zhang and Sennrich, "Root mean square layer
///   normalization", 2019.
at::Tensor norm_rows(const at::Tensor& x, const NormWeights& weights, const NormKind& kind);

/// The weights of norms of queries and of keys, without a bias: of each head, if they have its
/// size, or of all heads of a token together.
struct HeadNormWeights {
  Weight queries;  // [head_dim] or [query_columns]
  Weight keys;     // [head_dim] or [key_value_columns]
};

/// The same of queries and keys; values are passed on. Shapes: qkv [T, columns].
at::Tensor norm_heads(const at::Tensor& qkv, const Heads& heads, const HeadNormWeights& weights,
                      const NormKind& kind);

}  // namespace temper
