// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include "model/model_config.h"
#include "model/ops/attention.h"

namespace temper {

/// Angular frequencies of the rotary positions. Returns [head_dim / 2] fp32.
/// Source: Su et al., "RoFormer", 2021; the llama3 stretching as in Hugging Face transformers.
at::Tensor rotary_frequencies(const RopeOptions& options, int64_t head_dim);

/// Cosines and sines of the angles of some tokens, as rounded to the compute dtype.
struct RotaryAngles {
  at::Tensor cosines;  // [T, head_dim / 2] fp32
  at::Tensor sines;    // [T, head_dim / 2] fp32
};

/// The angles at any positions; remembers those it has computed.
class Rotary {
 public:
  Rotary(const RopeOptions& options, int64_t head_dim);

  /// Shapes: positions [T] int64.
  RotaryAngles angles(const at::Tensor& positions, at::ScalarType dtype);

 private:
  void extend(int64_t num_positions, at::ScalarType dtype);

  at::Tensor frequencies_;
  RotaryAngles table_;  // Of positions 0, 1, ...
  at::ScalarType dtype_ = at::ScalarType::Undefined;
};

/// Rotates the first half of each query and key head against its second half. `qkv` itself is
/// overwritten on a CPU, so nothing else may hold it. Shapes: qkv [T, columns].
at::Tensor rotate(const at::Tensor& qkv, const RotaryAngles& angles, const Heads& heads);

}  // namespace temper
