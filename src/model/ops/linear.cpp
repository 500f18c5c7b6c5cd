// SPDX-License-Identifier: Apache-2.0
#include "model/ops/linear.h"

#include <ATen/ATen.h>

#include "model/ops/backward.h"
#include "model/ops/column_sum.h"
#include "model/ops/product.h"

namespace temper {

at::Tensor linear_forward(const at::Tensor& onto, const at::Tensor& x, const LinearWeights& weights,
                          LinearPass& kept) {
  const bool has_bias = weights.bias.is_defined();
  if (weights.low_rank.has_magnitude()) {
    at::Tensor y = decomposed_product(x, weights.matrix, weights.low_rank, kept.decomposed);
    if (onto.defined()) y.add_(onto);
    if (has_bias) y.add_(weights.bias.value());
    return y;
  }
  at::Tensor y = at::empty({x.size(0), weights.matrix.shape()[0]}, x.options());
  if (onto.defined()) {
    y.copy_(onto);
  } else if (has_bias) {
    y.copy_(weights.bias.value());
  }
  const float keep = onto.defined() || has_bias ? 1.0F : 0.0F;
  if (weights.low_rank.is_defined()) {
    kept.projected = low_rank_product(y, x, weights.matrix, weights.low_rank, keep);
  } else {
    product_out(y, x, weights.matrix.value().t(), {.keep = keep});
  }
  if (onto.defined() && has_bias) y.add_(weights.bias.value());
  return y;
}

at::Tensor linear_backward(const at::Tensor& gradient, const std::function<at::Tensor()>& x,
                           const LinearWeights& weights, const LinearPass& kept) {
  if (at::Tensor matrix = weights.matrix.gradient(); matrix.defined()) {
    if (weights.matrix.is_transposed()) {
      product_out(matrix.t(), x().t(), gradient);
    } else {
      product_out(matrix, gradient.t(), x());
    }
  }
  if (weights.bias.is_defined() && weights.bias.gradient().defined()) {
    column_sum_out(weights.bias.gradient(), gradient);
  }
  if (weights.low_rank.has_magnitude()) {
    return decomposed_backward(gradient, x(), kept.decomposed, weights.matrix, weights.low_rank);
  }
  if (weights.low_rank.is_defined()) {
    return low_rank_backward(gradient, x(), kept.projected, weights.matrix, weights.low_rank);
  }
  return product(gradient, weights.matrix.value());
}

at::Tensor linear(const Activation& x, const LinearWeights& weights) {
  LinearPass kept;
  at::Tensor y = without_graph([&] { return linear_forward({}, x.value, weights, kept); });
  return with_backward(std::move(y), {x.value},
                       [x = x.again, weights, kept = std::move(kept)](
                           const at::Tensor& gradient) -> std::vector<at::Tensor> {
                         return {linear_backward(gradient, x, weights, kept)};
                       });
}

at::Tensor side_by_side(const Activation& x, const SideBySide& modules) {
  if (modules.size() == 1) return linear(x, modules.front());
  std::vector<at::Tensor> outputs;
  for (const LinearWeights& one : modules) outputs.push_back(linear(x, one));
  std::vector<int64_t> widths;
  for (const at::Tensor& output : outputs) widths.push_back(output.size(1));
  at::Tensor whole = without_graph([&] { return at::cat(outputs, 1); });
  return with_backward(std::move(whole), outputs, [widths](const at::Tensor& gradient) {
    std::vector<at::Tensor> parts;
    for (const at::Tensor& part : gradient.split_with_sizes(widths, 1)) {
      parts.push_back(part.contiguous());
    }
    return parts;
  });
}

at::Tensor linear_onto(const at::Tensor& residual, const Activation& x,
                       const LinearWeights& weights) {
  LinearPass kept;
  at::Tensor y = without_graph([&] { return linear_forward(residual, x.value, weights, kept); });
  return with_backward(std::move(y), {residual, x.value},
                       [x = x.again, weights, kept = std::move(kept)](
                           const at::Tensor& gradient) -> std::vector<at::Tensor> {
                         return {gradient, linear_backward(gradient, x, weights, kept)};
                       });
}

}  // namespace temper
