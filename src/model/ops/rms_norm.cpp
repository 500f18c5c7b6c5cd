// SPDX-License-Identifier: Apache-2.0
#include "model/ops/rms_norm.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "model/ops/backward.h"
#include "model/ops/column_sum.h"
#include "model/ops/rows.h"

namespace temper {
namespace {

template <typename T>
struct NormRow {
  const T* x;
  const float* weight;
  int64_t size;
  float* scratch;  // [3 * size]
};

// In one fp32 sum a row of some thousand elements loses its last bit, and an element of bf16 in ten
// thousand becomes another than with the exact sum, which transformers has.
float mean_of_squares(const float* x, int64_t size) {
  constexpr int64_t kBlock = 128;
  double sum = 0.0;
  for (int64_t begin = 0; begin < size; begin += kBlock) {
    sum += at::vec::map_reduce_all<float>([](Vector v) { return v * v; },
                                          [](Vector a, Vector b) { return a + b; }, x + begin,
                                          std::min(kBlock, size - begin));
  }
  return static_cast<float>(sum) / static_cast<float>(size);
}

// Writes the normalized row; returns 1 / rms(x).
template <typename T>
float rms_norm_row(NormRow<T> row, T* out, float epsilon) {
  const float* x = read_row(row.x, row.scratch, row.size);
  const float mean = mean_of_squares(x, row.size);
  const float inverse = 1.0F / std::sqrt(mean + epsilon);
  float* y = row_buffer(out, row.scratch + row.size);
  for (int64_t i = 0; i < row.size; ++i) y[i] = x[i] * inverse;
  round_row<T>(y, row.size);
  for (int64_t i = 0; i < row.size; ++i) y[i] *= row.weight[i];
  write_row(out, y, row.size);
  return inverse;
}

// With n = x / rms(x) and d = gradient * weight: writes (d - n mean(d n)) / rms(x) to `out` and
// adds gradient * n to `weight_gradient`.
template <typename T>
void rms_norm_row_backward(NormRow<T> row, const T* gradient, float inverse, T* out,
                           float* weight_gradient) {
  const int64_t size = row.size;
  const float* x = read_row(row.x, row.scratch, size);
  const float* upper = read_row(gradient, row.scratch + size, size);
  float* result = row.scratch + 2 * size;
  Vector products(0.0F);
  for_each_vector(size, [&](int64_t i, int count) {
    const Vector u = Vector::loadu(upper + i, count);
    const Vector n = Vector::loadu(x + i, count) * Vector(inverse);
    const Vector d = u * Vector::loadu(row.weight + i, count);
    products = products + d * n;
    d.store(result + i, count);
  });
  const float sum =
      at::vec::vec_reduce_all<float>([](Vector a, Vector b) { return a + b; }, products);
  const float mean = sum / static_cast<float>(size);
  float* to = row_buffer(out, result);
  for (int64_t i = 0; i < size; ++i) {
    const float n = x[i] * inverse;
    weight_gradient[i] += upper[i] * n;
    to[i] = (result[i] - n * mean) * inverse;
  }
  write_row(out, to, size);
}

// Which elements of a row [columns] are normed: pieces of `size` that lie side by side from its
// beginning. The first ones have the first weight, those after them the second.
struct Pieces {
  int64_t columns;
  int64_t size;
  int64_t count;
  int64_t num_first;

  static Pieces whole_row(int64_t columns) { return {columns, columns, 1, 1}; }

  // Queries and keys lie side by side, and values behind them are passed on.
  static Pieces of(const Heads& heads) {
    return {heads.columns(), heads.head_dim, heads.num_heads + heads.num_key_value_heads,
            heads.num_heads};
  }

  bool are_all() const { return count * size == columns; }
  int64_t weight_of(int64_t piece) const { return piece < num_first ? 0 : size; }
};

struct Normalized {
  at::Tensor output;
  at::Tensor inverse_rms;  // [T * pieces] fp32
};

// Shapes: x [T, columns], scale [all weights] fp32.
Normalized forward_on_cpu(const at::Tensor& x, const at::Tensor& scale, const Pieces& pieces,
                          double epsilon) {
  const int64_t num_rows = x.size(0), size = pieces.size, count = pieces.count;
  Normalized result{pieces.are_all() ? at::empty_like(x) : x.clone(),
                    at::empty({num_rows * count}, at::kFloat)};
  dispatch_dtype(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const T* from = x.const_data_ptr<T>();
    const float* w = scale.const_data_ptr<float>();
    T* to = result.output.mutable_data_ptr<T>();
    float* inverse = result.inverse_rms.mutable_data_ptr<float>();
    at::parallel_for(0, num_rows, 1, [&](int64_t begin, int64_t end) {
      RowScratch scratch(2 * size);
      for (int64_t i = begin * count; i < end * count; ++i) {
        const int64_t row = i / count, piece = i % count;
        const int64_t offset = row * pieces.columns + piece * size;
        inverse[i] =
            rms_norm_row({from + offset, w + pieces.weight_of(piece), size, scratch.data()},
                         to + offset, static_cast<float>(epsilon));
      }
    });
  });
  return result;
}

struct Gradients {
  at::Tensor input;    // [T, columns]
  at::Tensor weights;  // [blocks, all weights] fp32, still to be added up.
};

Gradients backward_on_cpu(const at::Tensor& gradient, const at::Tensor& x, const at::Tensor& scale,
                          const Pieces& pieces, const at::Tensor& inverse_rms) {
  const int64_t num_rows = x.size(0), size = pieces.size, count = pieces.count;
  const int64_t num_blocks = num_row_blocks(num_rows), num_weights = scale.numel();
  Gradients result{pieces.are_all() ? at::empty_like(x) : gradient.clone(),
                   at::zeros({num_blocks, num_weights}, at::kFloat)};
  dispatch_dtype(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const T* from = x.const_data_ptr<T>();
    const T* upper = gradient.const_data_ptr<T>();
    const float* w = scale.const_data_ptr<float>();
    const float* inverse = inverse_rms.const_data_ptr<float>();
    T* to = result.input.mutable_data_ptr<T>();
    float* partial = result.weights.mutable_data_ptr<float>();
    run_tasks(num_blocks, [&](int64_t block) {
      RowScratch scratch(3 * size);
      const Range range = row_block(block, num_rows);
      for (int64_t i = range.begin * count; i < range.end * count; ++i) {
        const int64_t row = i / count, piece = i % count;
        const int64_t offset = row * pieces.columns + piece * size;
        const int64_t which = pieces.weight_of(piece);
        rms_norm_row_backward({from + offset, w + which, size, scratch.data()}, upper + offset,
                              inverse[i], to + offset, partial + block * num_weights + which);
      }
    });
  });
  return result;
}

at::Tensor backward(const at::Tensor& gradient, const at::Tensor& x, const Weight& weight,
                    const at::Tensor& inverse_rms) {
  at::Tensor weight_gradient = weight.gradient();
  if (x.is_cpu()) {
    const Gradients result =
        backward_on_cpu(gradient.contiguous(), x, weight.value().to(at::kFloat),
                        Pieces::whole_row(x.size(1)), inverse_rms);
    if (weight_gradient.defined()) add_partial_sums(weight_gradient, result.weights);
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

// Both weights end to end, as fp32. Returns [2 * head_dim].
at::Tensor joint_weight(const HeadNormWeights& weights) {
  return at::cat({weights.queries.value().to(at::kFloat), weights.keys.value().to(at::kFloat)});
}

at::Tensor head_backward(const at::Tensor& gradient, const at::Tensor& qkv, const Heads& heads,
                         const HeadNormWeights& weights, const at::Tensor& inverse_rms) {
  const Gradients result = backward_on_cpu(gradient.contiguous(), qkv, joint_weight(weights),
                                           Pieces::of(heads), inverse_rms);
  const at::Tensor both = at::empty({2 * heads.head_dim}, at::kFloat);
  add_partial_sums(both, result.weights);
  at::Tensor queries = weights.queries.gradient(), keys = weights.keys.gradient();
  if (queries.defined()) queries.copy_(both.narrow(0, 0, heads.head_dim));
  if (keys.defined()) keys.copy_(both.narrow(0, heads.head_dim, heads.head_dim));
  return result.input;
}

// Each head as a row of its own.
at::Tensor head_norm_elsewhere(const at::Tensor& qkv, const Heads& heads,
                               const HeadNormWeights& weights, double epsilon) {
  const auto normed = [&](int64_t first_column, int64_t num_heads, const Weight& weight) {
    const at::Tensor part = qkv.narrow(1, first_column, num_heads * heads.head_dim);
    return rms_norm(part.reshape({-1, heads.head_dim}), weight, epsilon).view(part.sizes());
  };
  return at::cat({normed(0, heads.num_heads, weights.queries),
                  normed(heads.first_key_column(), heads.num_key_value_heads, weights.keys),
                  qkv.narrow(1, heads.first_value_column(), heads.key_value_columns())},
                 1);
}

}  // namespace

at::Tensor rms_norm(const at::Tensor& x, const Weight& weight, double epsilon) {
  Normalized result = without_graph([&]() -> Normalized {
    if (x.is_cpu()) {
      return forward_on_cpu(x, weight.value().to(at::kFloat), Pieces::whole_row(x.size(1)),
                            epsilon);
    }
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

at::Tensor head_norm(const at::Tensor& qkv, const Heads& heads, const HeadNormWeights& weights,
                     double epsilon) {
  if (!qkv.is_cpu()) return head_norm_elsewhere(qkv, heads, weights, epsilon);
  Normalized result = forward_on_cpu(qkv, joint_weight(weights), Pieces::of(heads), epsilon);
  return with_backward(std::move(result.output), {qkv},
                       [qkv, heads, weights, inverse_rms = std::move(result.inverse_rms)](
                           const at::Tensor& gradient) -> std::vector<at::Tensor> {
                         return {head_backward(gradient, qkv, heads, weights, inverse_rms)};
                       });
}

}  // namespace temper
