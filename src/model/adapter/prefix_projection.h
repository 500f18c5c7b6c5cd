// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "model/adapter/initial_values.h"
#include "model/unit_layout.h"

namespace temper {

/// What a prefix is computed from while it is trained: an embedding of each virtual token and two
/// linear layers with a tanh between. Only what it computes is published; its own tensors are a
/// unit that no reader needs.
/// Source: Li and Liang, arXiv:2101.00190, section 4.3; peft 0.21, tuners/prefix_tuning/model.py.
class PrefixProjection {
 public:
  /// Of `num_tokens` rows with `columns` numbers, from embeddings of `width`, through `hidden`.
  PrefixProjection(int64_t num_tokens, int64_t width, int64_t hidden, int64_t columns);

  const UnitLayout& unit() const { return unit_; }
  const std::vector<InitialValues>& initial() const { return initial_; }  ///< [slot]

  /// Shapes: flat [unit().num_elements() or more] fp32; returns [num_tokens * columns].
  at::Tensor values(const at::Tensor& flat) const;

  /// From the gradient of the values to that of the unit.
  /// Shapes: gradient [num_tokens * columns]; returns [unit().num_elements()].
  at::Tensor backward(const at::Tensor& flat, const at::Tensor& gradient) const;

 private:
  struct Pass;
  at::Tensor part(const at::Tensor& flat, int slot) const;
  Pass forward(const at::Tensor& flat) const;

  UnitLayout unit_;
  std::vector<InitialValues> initial_;
};

}  // namespace temper
