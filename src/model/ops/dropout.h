// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

namespace temper {

/// Dropout whose mask is a function of the seed, the micro-batch's number in the run, the place in
/// the model and the element alone: the same on any number of ranks, after a resume, and when a
/// block is computed again for its backward pass.
class Dropout {
 public:
  /// 0 <= probability < 1.
  Dropout(double probability, uint64_t seed) : probability_(probability), seed_(seed) {}

  /// Elements are dropped from now on, as for this micro-batch; nothing: no more.
  void set_micro_batch(std::optional<int64_t> number) { number_ = number; }

  bool is_active() const { return probability_ > 0.0 && number_.has_value(); }

  /// Elements set to zero with the probability, the others divided by one minus it. The gradient of
  /// this function is itself.
  /// Shapes: x [T, n] fp32 or bf16; returns the same.
  at::Tensor apply(const at::Tensor& x, uint64_t place) const;

  /// sum += apply(x, place), rounded once. Shapes: sum, x [T, n] of one dtype, dense.
  void add_applied(at::Tensor sum, const at::Tensor& x, uint64_t place) const;

 private:
  void multiply(const at::Tensor& x, uint64_t place, float keep, at::Tensor to) const;

  double probability_;
  uint64_t seed_;
  std::optional<int64_t> number_;
};

}  // namespace temper
