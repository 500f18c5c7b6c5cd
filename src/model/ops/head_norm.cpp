// SPDX-License-Identifier: Apache-2.0
#include "model/ops/head_norm.h"

#include <ATen/ATen.h>

#include <utility>

#include "model/ops/backward.h"
#include "model/ops/column_sum.h"
#include "model/ops/rms_norm_row.h"

namespace temper {
namespace {

// Queries and keys lie side by side, so head h < num_heads is a query head and others are keys.
int64_t num_normed(const Heads& heads) { return heads.num_heads + heads.num_key_value_heads; }

// Both weights end to end, as fp32. Returns [2, head_dim].
at::Tensor joint_weight(const HeadNormWeights& weights) {
  return at::stack({weights.queries.value().to(at::kFloat), weights.keys.value().to(at::kFloat)});
}

struct Normalized {
  at::Tensor output;
  at::Tensor inverse_rms;  // [T, num_normed] fp32
};

Normalized forward_on_cpu(const at::Tensor& qkv, const Heads& heads, const HeadNormWeights& weights,
                          float epsilon) {
  const int64_t num_rows = qkv.size(0), size = heads.head_dim, count = num_normed(heads);
  Normalized result{qkv.clone(), at::empty({num_rows, count}, at::kFloat)};
  const at::Tensor scale = joint_weight(weights);
  dispatch_dtype(qkv.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const T* from = qkv.const_data_ptr<T>();
    const float* w = scale.const_data_ptr<float>();
    T* to = result.output.mutable_data_ptr<T>();
    float* inverse = result.inverse_rms.mutable_data_ptr<float>();
    at::parallel_for(0, num_rows, 1, [&](int64_t begin, int64_t end) {
      RowScratch scratch(2 * size);
      for (int64_t i = begin * count; i < end * count; ++i) {
        const int64_t row = i / count, head = i % count;
        const int64_t offset = row * heads.columns() + head * size;
        const float* weight = w + (head < heads.num_heads ? 0 : size);
        inverse[i] =
            rms_norm_row({from + offset, weight, size, scratch.data()}, to + offset, epsilon);
      }
    });
  });
  return result;
}

struct Gradients {
  at::Tensor input;    // [T, columns]
  at::Tensor partial;  // [blocks, 2 * head_dim] fp32, of both weights
};

Gradients backward_on_cpu(const at::Tensor& gradient, const at::Tensor& qkv, const Heads& heads,
                          const at::Tensor& scale, const at::Tensor& inverse_rms) {
  const int64_t num_rows = qkv.size(0), size = heads.head_dim, count = num_normed(heads);
  const int64_t num_blocks = num_row_blocks(num_rows);
  Gradients result{gradient.clone(), at::zeros({num_blocks, 2 * size}, at::kFloat)};
  dispatch_dtype(qkv.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const T* from = qkv.const_data_ptr<T>();
    const T* upper = gradient.const_data_ptr<T>();
    const float* w = scale.const_data_ptr<float>();
    const float* inverse = inverse_rms.const_data_ptr<float>();
    T* to = result.input.mutable_data_ptr<T>();
    float* partial = result.partial.mutable_data_ptr<float>();
    run_tasks(num_blocks, [&](int64_t block) {
      RowScratch scratch(3 * size);
      const Range range = row_block(block, num_rows);
      for (int64_t i = range.begin * count; i < range.end * count; ++i) {
        const int64_t row = i / count, head = i % count;
        const int64_t offset = row * heads.columns() + head * size;
        const int64_t which = head < heads.num_heads ? 0 : size;
        rms_norm_row_backward({from + offset, w + which, size, scratch.data()}, upper + offset,
                              inverse[i], to + offset, partial + block * 2 * size + which);
      }
    });
  });
  return result;
}

at::Tensor backward(const at::Tensor& gradient, const at::Tensor& qkv, const Heads& heads,
                    const HeadNormWeights& weights, const at::Tensor& inverse_rms) {
  const Gradients result =
      backward_on_cpu(gradient.contiguous(), qkv, heads, joint_weight(weights), inverse_rms);
  const at::Tensor both = at::empty({2 * heads.head_dim}, at::kFloat);
  add_partial_sums(both, result.partial);
  at::Tensor queries = weights.queries.gradient(), keys = weights.keys.gradient();
  if (queries.defined()) queries.copy_(both.narrow(0, 0, heads.head_dim));
  if (keys.defined()) keys.copy_(both.narrow(0, heads.head_dim, heads.head_dim));
  return result.input;
}

}  // namespace

at::Tensor head_norm(const at::Tensor& qkv, const Heads& heads, const HeadNormWeights& weights,
                     double epsilon) {
  Normalized result = forward_on_cpu(qkv, heads, weights, static_cast<float>(epsilon));
  return with_backward(std::move(result.output), {qkv},
                       [qkv, heads, weights, inverse_rms = std::move(result.inverse_rms)](
                           const at::Tensor& gradient) -> std::vector<at::Tensor> {
                         return {backward(gradient, qkv, heads, weights, inverse_rms)};
                       });
}

}  // namespace temper
