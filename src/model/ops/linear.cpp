// SPDX-License-Identifier: Apache-2.0
#include "model/ops/linear.h"

#include <ATen/ATen.h>

#include "model/ops/backward.h"
#include "model/ops/column_sum.h"
#include "model/ops/few_rows.h"

namespace temper {
namespace {

using Recompute = std::function<at::Tensor()>;

void write_gradients(const at::Tensor& gradient, const Recompute& x, const LinearWeights& weights) {
  at::Tensor matrix = weights.matrix.gradient();
  if (!matrix.defined()) return;
  at::mm_out(matrix, gradient.t(), x());
  if (weights.bias.is_defined()) column_sum_out(weights.bias.gradient(), gradient);
}

}  // namespace

at::Tensor linear(const Activation& x, const LinearWeights& weights) {
  at::Tensor y = without_graph([&] {
    const FewRowsGuard guard(x.value);
    const at::Tensor transposed = weights.matrix.value().t();
    return weights.bias.is_defined() ? at::addmm(weights.bias.value(), x.value, transposed)
                                     : at::mm(x.value, transposed);
  });
  return with_backward(
      std::move(y), {x.value},
      [x = x.again, weights](const at::Tensor& gradient) -> std::vector<at::Tensor> {
        const FewRowsGuard guard(gradient);
        write_gradients(gradient, x, weights);
        return {at::mm(gradient, weights.matrix.value())};
      });
}

at::Tensor linear_onto(const at::Tensor& residual, const Activation& x,
                       const LinearWeights& weights) {
  at::Tensor y = without_graph([&] {
    const FewRowsGuard guard(x.value);
    at::Tensor sum = at::addmm(residual, x.value, weights.matrix.value().t());
    return weights.bias.is_defined() ? sum.add_(weights.bias.value()) : sum;
  });
  return with_backward(
      std::move(y), {residual, x.value},
      [x = x.again, weights](const at::Tensor& gradient) -> std::vector<at::Tensor> {
        const FewRowsGuard guard(gradient);
        write_gradients(gradient, x, weights);
        return {gradient, at::mm(gradient, weights.matrix.value())};
      });
}

}  // namespace temper
