// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include "model/decoder.h"
#include "model/model_config.h"

namespace temper {

/// How fast one rank could go if its step were nothing but the model's matrix products.
struct MatmulLimit {
  double flop_per_second = 0.0;  ///< Of this rank, while all ranks compute.
};

/// Multiplies matrices of one block's shapes, forward and both backward products, for a fraction of
/// a second, and measures.
MatmulLimit measure_matmul_limit(const ModelConfig& config, int64_t tokens, at::ScalarType dtype,
                                 at::Device device);

/// Floating-point operations of the decoder's own matrices in one training step: forward; backward
/// for the input, from the lowest unit that is trained on, and for a matrix that is trained. With
/// an adapter none of them is. Units: a multiplication and an addition count as two.
double linear_flop(const Decoder& decoder, bool has_adapter, int64_t num_tokens,
                   int64_t num_targets);

/// The same of a forward pass alone, of a model that another one is kept near.
double forward_flop(const Decoder& decoder, int64_t num_tokens, int64_t num_targets);

}  // namespace temper
