// SPDX-License-Identifier: Apache-2.0
#include "model/ops/rms_norm.h"

#include <ATen/ATen.h>

#include <cmath>
#include <utility>

#include "model/ops/backward.h"
#include "model/ops/column_sum.h"
#include "model/ops/rms_norm_row.h"
#include "model/ops/rows.h"

namespace temper {
namespace {

struct Normalized {
  at::Tensor output;
  at::Tensor inverse_rms;  // [T] fp32
};

Normalized forward_on_cpu(const at::Tensor& x, const at::Tensor& weight, double epsilon) {
  const int64_t num_rows = x.size(0), size = x.size(1);
  Normalized result{at::empty_like(x), at::empty({num_rows}, at::kFloat)};
  const at::Tensor scale = weight.to(at::kFloat);
  dispatch_dtype(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const T* from = x.const_data_ptr<T>();
    const float* w = scale.const_data_ptr<float>();
    T* to = result.output.mutable_data_ptr<T>();
    float* inverse = result.inverse_rms.mutable_data_ptr<float>();
    at::parallel_for(0, num_rows, 1, [&](int64_t begin, int64_t end) {
      RowScratch scratch(2 * size);
      for (int64_t row = begin; row < end; ++row) {
        inverse[row] = rms_norm_row({from + row * size, w, size, scratch.data()}, to + row * size,
                                    static_cast<float>(epsilon));
      }
    });
  });
  return result;
}

struct Gradients {
  at::Tensor input;    // [T, n]
  at::Tensor partial;  // [blocks, n] fp32, of the weight
};

Gradients backward_on_cpu(const at::Tensor& gradient, const at::Tensor& x, const Weight& weight,
                          const at::Tensor& inverse_rms) {
  const int64_t num_rows = x.size(0), size = x.size(1);
  const int64_t num_blocks = num_row_blocks(num_rows);
  Gradients result{at::empty_like(x), at::zeros({num_blocks, size}, at::kFloat)};
  const at::Tensor scale = weight.value().to(at::kFloat);
  dispatch_dtype(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const T* from = x.const_data_ptr<T>();
    const T* upper = gradient.const_data_ptr<T>();
    const float* w = scale.const_data_ptr<float>();
    const float* inverse = inverse_rms.const_data_ptr<float>();
    T* to = result.input.mutable_data_ptr<T>();
    float* partial = result.partial.mutable_data_ptr<float>();
    run_tasks(num_blocks, [&](int64_t block) {
      RowScratch scratch(3 * size);
      const Range range = row_block(block, num_rows);
      for (int64_t row = range.begin; row < range.end; ++row) {
        rms_norm_row_backward({from + row * size, w, size, scratch.data()}, upper + row * size,
                              inverse[row], to + row * size, partial + block * size);
      }
    });
  });
  return result;
}

at::Tensor backward(const at::Tensor& gradient, const at::Tensor& x, const Weight& weight,
                    const at::Tensor& inverse_rms) {
  at::Tensor weight_gradient = weight.gradient();
  if (x.is_cpu()) {
    const Gradients result = backward_on_cpu(gradient.contiguous(), x, weight, inverse_rms);
    if (weight_gradient.defined()) add_partial_sums(weight_gradient, result.partial);
    return result.input;
  }
  const at::Tensor scale = inverse_rms.unsqueeze(1);
  const at::Tensor normalized = x.to(at::kFloat) * scale;
  const at::Tensor upper = gradient.to(at::kFloat);
  if (weight_gradient.defined()) weight_gradient.copy_((upper * normalized).sum(0));
  const at::Tensor inner = upper * weight.value();
  const at::Tensor mean = (inner * normalized).mean(1, /*keepdim=*/true);
  return (scale * (inner - normalized * mean)).to(x.scalar_type());
}

}  // namespace

at::Tensor rms_norm(const at::Tensor& x, const Weight& weight, double epsilon) {
  Normalized result = without_graph([&]() -> Normalized {
    if (x.is_cpu()) return forward_on_cpu(x, weight.value(), epsilon);
    const at::Tensor wide = x.to(at::kFloat);
    const at::Tensor inverse = at::rsqrt(wide.pow(2).mean(1) + epsilon);
    const at::Tensor normalized = (wide * inverse.unsqueeze(1)).to(x.scalar_type());
    return {(weight.value() * normalized).to(x.scalar_type()), inverse};
  });
  return with_backward(std::move(result.output), {x},
                       [x, weight, inverse_rms = std::move(result.inverse_rms)](
                           const at::Tensor& gradient) -> std::vector<at::Tensor> {
                         return {backward(gradient, x, weight, inverse_rms)};
                       });
}

}  // namespace temper
