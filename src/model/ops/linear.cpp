// SPDX-License-Identifier: Apache-2.0
#include "model/ops/linear.h"

#include <ATen/ATen.h>

#include "model/ops/backward.h"
#include "model/ops/column_sum.h"
#include "model/ops/few_rows.h"

namespace temper {
namespace {

using Recompute = std::function<at::Tensor()>;

// What the forward pass leaves for the backward pass.
struct Product {
  at::Tensor y;
  at::Tensor projected;  // By the low-rank part; undefined where there is none.
};

Product add_low_rank_to(at::Tensor y, const at::Tensor& x, const LinearWeights& weights) {
  if (!weights.low_rank.is_defined()) return {std::move(y), {}};
  at::Tensor projected = add_low_rank(y, x, weights.low_rank);
  return {std::move(y), std::move(projected)};
}

// Writes the gradients of what is trained, and returns that of x.
at::Tensor backward(const at::Tensor& gradient, const Recompute& x, const LinearWeights& weights,
                    const at::Tensor& projected) {
  const FewRowsGuard guard(gradient);
  at::Tensor matrix = weights.matrix.gradient();
  if (matrix.defined()) {
    at::mm_out(matrix, gradient.t(), x());
    if (weights.bias.is_defined()) column_sum_out(weights.bias.gradient(), gradient);
  }
  at::Tensor x_gradient = at::mm(gradient, weights.matrix.value());
  if (projected.defined()) {
    low_rank_backward(gradient, x(), projected, weights.low_rank, x_gradient);
  }
  return x_gradient;
}

}  // namespace

at::Tensor linear(const Activation& x, const LinearWeights& weights) {
  Product product = without_graph([&] {
    const FewRowsGuard guard(x.value);
    const at::Tensor transposed = weights.matrix.value().t();
    return add_low_rank_to(weights.bias.is_defined()
                               ? at::addmm(weights.bias.value(), x.value, transposed)
                               : at::mm(x.value, transposed),
                           x.value, weights);
  });
  return with_backward(std::move(product.y), {x.value},
                       [x = x.again, weights, projected = std::move(product.projected)](
                           const at::Tensor& gradient) -> std::vector<at::Tensor> {
                         return {backward(gradient, x, weights, projected)};
                       });
}

at::Tensor linear_onto(const at::Tensor& residual, const Activation& x,
                       const LinearWeights& weights) {
  Product product = without_graph([&] {
    const FewRowsGuard guard(x.value);
    at::Tensor sum = at::addmm(residual, x.value, weights.matrix.value().t());
    if (weights.bias.is_defined()) sum.add_(weights.bias.value());
    return add_low_rank_to(std::move(sum), x.value, weights);
  });
  return with_backward(std::move(product.y), {residual, x.value},
                       [x = x.again, weights, projected = std::move(product.projected)](
                           const at::Tensor& gradient) -> std::vector<at::Tensor> {
                         return {gradient, backward(gradient, x, weights, projected)};
                       });
}

}  // namespace temper
