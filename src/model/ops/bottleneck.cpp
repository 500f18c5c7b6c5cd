// SPDX-License-Identifier: Apache-2.0
#include "model/ops/bottleneck.h"

#include <ATen/ATen.h>

#include <utility>
#include <vector>

#include "model/ops/backward.h"
#include "model/ops/column_sum.h"
#include "model/ops/product.h"

namespace temper {
namespace {

// What the forward pass leaves for the backward pass.
struct Sum {
  at::Tensor y;
  at::Tensor projected;  // down(x), [T, size].
};

at::Tensor rows_of(const Weight& bias, int64_t count) { return bias.value().repeat({count, 1}); }

// `residual` may be undefined.
Sum forward(const at::Tensor& residual, const at::Tensor& x, const BottleneckWeights& weights) {
  at::Tensor projected = rows_of(weights.down_bias, x.size(0));
  product_out(projected, x.to(at::kFloat), weights.down.value().t(), {.keep = 1.0F});
  at::Tensor sum = rows_of(weights.up_bias, x.size(0)).add_(x);
  if (residual.defined()) sum.add_(residual);
  product_out(sum, activate(weights.function, projected), weights.up.value().t(), {.keep = 1.0F});
  return {sum.to(x.scalar_type()), std::move(projected)};
}

void write_gradients(const BottleneckWeights& weights, const at::Tensor& gradient,
                     const at::Tensor& x, const at::Tensor& projected,
                     const at::Tensor& projected_gradient) {
  product_out(weights.up.gradient(), gradient.t(), activate(weights.function, projected));
  product_out(weights.down.gradient(), projected_gradient.t(), x);
  column_sum_out(weights.up_bias.gradient(), gradient);
  column_sum_out(weights.down_bias.gradient(), projected_gradient);
}

// Writes the gradients of the weights, and returns that of x.
at::Tensor backward(const at::Tensor& gradient, const at::Tensor& x, const at::Tensor& projected,
                    const BottleneckWeights& weights) {
  at::Tensor x_gradient = at::empty(gradient.sizes(), projected.options()).copy_(gradient);
  at::Tensor projected_gradient = at::empty_like(projected);
  product_out(projected_gradient, x_gradient, weights.up.value());
  projected_gradient = activate_backward(weights.function, projected, projected_gradient);
  write_gradients(weights, x_gradient, x.to(at::kFloat), projected, projected_gradient);
  product_out(x_gradient, projected_gradient, weights.down.value(), {.keep = 1.0F});
  return x_gradient.to(gradient.scalar_type());
}

}  // namespace

at::Tensor bottleneck(const at::Tensor& x, const BottleneckWeights& weights) {
  Sum sum = without_graph([&] { return forward({}, x, weights); });
  return with_backward(std::move(sum.y), {x},
                       [x = x.detach(), weights, projected = std::move(sum.projected)](
                           const at::Tensor& gradient) -> std::vector<at::Tensor> {
                         return {backward(gradient, x, projected, weights)};
                       });
}

at::Tensor bottleneck_onto(const at::Tensor& residual, const at::Tensor& y,
                           const BottleneckWeights& weights) {
  Sum sum = without_graph([&] { return forward(residual, y, weights); });
  return with_backward(std::move(sum.y), {residual, y},
                       [y = y.detach(), weights, projected = std::move(sum.projected)](
                           const at::Tensor& gradient) -> std::vector<at::Tensor> {
                         return {gradient, backward(gradient, y, projected, weights)};
                       });
}

}  // namespace temper
