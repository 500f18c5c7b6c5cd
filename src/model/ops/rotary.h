// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include "model/model_config.h"
#include "model/ops/attention.h"

namespace temper {

/// Angular frequencies of the rotary positions. Returns [rotated numbers of a head / 2] fp32.
/// Source: Su et al., "RoFormer", 2021; Peng et al., "YaRN", 2023; the other ways of stretching as
///   in transformers 5.24, modeling_rope_utils.py.
at::Tensor rotary_frequencies(const RopeOptions& options, int64_t head_dim);

/// Cosines and sines of the angles of some tokens, as rounded to the compute dtype.
struct RotaryAngles {
  at::Tensor cosines;             ///< [T, rotated numbers / 2] fp32; undefined: nothing is rotated.
  at::Tensor sines;               ///< The same.
  at::Tensor query_factors = {};  ///< [T] fp32, by which queries are multiplied; undefined: 1.
  RopeOptions::Pairs pairs = RopeOptions::Pairs::kHalves;
};

/// The angles at any positions; remembers those it has computed.
class Rotary {
 public:
  Rotary(RopeOptions options, int64_t head_dim);

  /// `largest` is the largest of the positions. Shapes: positions [T] int64.
  /// Throws: std::invalid_argument for a position beyond those that Decoder::choose_positions was
  ///   told of.
  RotaryAngles angles(const at::Tensor& positions, int64_t largest, at::ScalarType dtype);

 private:
  void extend(int64_t num_positions, at::ScalarType dtype);

  RopeOptions options_;
  at::Tensor frequencies_;
  RotaryAngles table_;  // Of positions 0, 1, ...
  at::ScalarType dtype_ = at::ScalarType::Undefined;
};

/// Rotates the numbers of each query and key head in pairs; those behind the rotated ones are
/// passed on. `qkv` itself is overwritten, but where neither a CPU nor a kernel of ours
/// computes, so nothing else may hold it. Shapes: qkv [T,
/// columns].
at::Tensor rotate(const at::Tensor& qkv, const RotaryAngles& angles, const Heads& heads);

}  // namespace temper
