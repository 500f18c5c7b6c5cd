// SPDX-License-Identifier: Apache-2.0
#include "model/ops/norm.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "model/ops/backward.h"
#include "model/ops/column_sum.h"
#include "model/ops/rows.h"

namespace temper {
namespace {

// What a row was normed by.
struct RowScale {
  float mean;     // 0 where the kind does not centre.
  float inverse;  // 1 / deviation, or 1 / rms.
};

template <typename T>
struct NormRow {
  const T* x;
  const float* weight;
  const float* bias;  // Null where there is none.
  int64_t size;
  float* scratch;  // [3 * size]
};

// In one fp32 sum a row of some thousand elements loses its last bit, and an element of bf16 in ten
// thousand becomes another than with the exact sum, which transformers has.
template <typename Term>
float mean_of(const float* x, int64_t size, Term term) {
  constexpr int64_t kBlock = 128;
  double sum = 0.0;
  for (int64_t begin = 0; begin < size; begin += kBlock) {
    sum += at::vec::map_reduce_all<float>(
        term, [](Vector a, Vector b) { return a + b; }, x + begin, std::min(kBlock, size - begin));
  }
  return static_cast<float>(sum) / static_cast<float>(size);
}

RowScale scale_of(const float* x, int64_t size, const NormKind& kind) {
  const float mean = kind.is_centred ? mean_of(x, size, [](Vector v) { return v; }) : 0.0F;
  const Vector middle(mean);
  const float squares =
      kind.is_centred ? mean_of(x, size, [=](Vector v) { return (v - middle) * (v - middle); })
                      : mean_of(x, size, [](Vector v) { return v * v; });
  return {mean, 1.0F / std::sqrt(squares + static_cast<float>(kind.epsilon))};
}

// Writes the normed row.
template <typename T>
RowScale norm_row(const NormRow<T>& row, T* out, const NormKind& kind) {
  const float* x = read_row(row.x, row.scratch, row.size);
  const RowScale scale = scale_of(x, row.size, kind);
  float* y = row_buffer(out, row.scratch + row.size);
  if (kind.is_centred) {
    for (int64_t i = 0; i < row.size; ++i) y[i] = (x[i] - scale.mean) * scale.inverse;
  } else {
    for (int64_t i = 0; i < row.size; ++i) y[i] = x[i] * scale.inverse;
  }
  if (!kind.is_rounded_once) round_row<T>(y, row.size);
  for (int64_t i = 0; i < row.size; ++i) y[i] *= row.weight[i];
  if (row.bias != nullptr) {
    for (int64_t i = 0; i < row.size; ++i) y[i] += row.bias[i];
  }
  write_row(out, y, row.size);
  return scale;
}

// With n = (x - mean) inverse and d = gradient * weight: writes (d - mean(d) - n mean(d n)) inverse
// to `out`, without mean(d) where the kind does not centre, and adds gradient * n to
// `weight_gradient`.
template <bool kIsCentred, typename T>
void norm_row_backward(const NormRow<T>& row, const T* gradient, RowScale scale, T* out,
                       float* weight_gradient) {
  const int64_t size = row.size;
  const float* x = read_row(row.x, row.scratch, size);
  const float* upper = read_row(gradient, row.scratch + size, size);
  float* result = row.scratch + 2 * size;
  const Vector inverse(scale.inverse), middle(scale.mean);
  Vector products(0.0F), sums(0.0F);
  for_each_vector(size, [&](int64_t i, int count) {
    const Vector u = Vector::loadu(upper + i, count);
    Vector n = Vector::loadu(x + i, count);
    // What lies behind the row's end is 0 in the gradient alone.
    if constexpr (kIsCentred) n = n - middle;
    n = n * inverse;
    const Vector d = u * Vector::loadu(row.weight + i, count);
    products = products + d * n;
    if constexpr (kIsCentred) sums = sums + d;
    d.store(result + i, count);
  });
  const auto mean = [&](Vector sum) {
    return at::vec::vec_reduce_all<float>([](Vector a, Vector b) { return a + b; }, sum) /
           static_cast<float>(size);
  };
  const float slope = mean(products), shift = kIsCentred ? mean(sums) : 0.0F;
  float* to = row_buffer(out, result);
  for (int64_t i = 0; i < size; ++i) {
    const float n = (kIsCentred ? x[i] - scale.mean : x[i]) * scale.inverse;
    weight_gradient[i] += upper[i] * n;
    to[i] = ((kIsCentred ? result[i] - shift : result[i]) - n * slope) * scale.inverse;
  }
  write_row(out, to, size);
}

// Which elements of a row [columns] are normed: pieces that lie side by side from its beginning.
// The first ones have the first weight, those after them the second.
struct Pieces {
  int64_t columns;
  int64_t first_size, num_first;
  int64_t second_size, num_second;

  static Pieces whole_row(int64_t columns) { return {columns, columns, 1, 0, 0}; }

  // Queries and keys lie side by side, and values behind them are passed on.
  static Pieces of(const Heads& heads, const HeadNormWeights& weights) {
    const int64_t query_size = weights.queries.shape()[0], key_size = weights.keys.shape()[0];
    return {heads.columns(), query_size, heads.query_columns() / query_size, key_size,
            heads.key_value_columns() / key_size};
  }

  int64_t count() const { return num_first + num_second; }
  int64_t normed() const { return num_first * first_size + num_second * second_size; }
  int64_t largest() const { return std::max(first_size, second_size); }
  int64_t size(int64_t piece) const { return piece < num_first ? first_size : second_size; }
  int64_t begin(int64_t piece) const {
    return piece < num_first ? piece * first_size
                             : num_first * first_size + (piece - num_first) * second_size;
  }
  int64_t weight_of(int64_t piece) const { return piece < num_first ? 0 : first_size; }
};

// The weights as fp32, as they are multiplied and added. Shapes: [all weights], [n] or undefined.
struct Factors {
  at::Tensor scale, bias;

  const float* bias_data() const { return bias.defined() ? bias.const_data_ptr<float>() : nullptr; }
};

at::Tensor factor(const Weight& weight, const NormKind& kind) {
  const at::Tensor value = weight.value().to(at::kFloat);
  return kind.adds_one ? value + 1.0 : value;
}

Factors factors_of(const NormWeights& weights, const NormKind& kind, int64_t size) {
  if (weights.is_without) return {at::ones({size}, at::kFloat), {}};
  return {factor(weights.scale, kind),
          weights.bias.is_defined() ? weights.bias.value().to(at::kFloat) : at::Tensor()};
}

// Both weights end to end.
Factors factors_of(const HeadNormWeights& weights, const NormKind& kind) {
  return {at::cat({factor(weights.queries, kind), factor(weights.keys, kind)}), {}};
}

struct Normed {
  NormKind kind;
  at::Tensor output;
  at::Tensor means, inverses;  // [T * pieces] fp32; no means where the kind does not centre.

  RowScale scale(int64_t i) const {
    return {means.defined() ? means.const_data_ptr<float>()[i] : 0.0F,
            inverses.const_data_ptr<float>()[i]};
  }
};

// Shapes: x [T, columns].
Normed forward_on_cpu(const at::Tensor& x, const Factors& factors, const Pieces& pieces,
                      const NormKind& kind) {
  const int64_t num_rows = x.size(0), count = pieces.count();
  Normed result{kind, pieces.normed() == pieces.columns ? at::empty_like(x) : x.clone(),
                kind.is_centred ? at::empty({num_rows * count}, at::kFloat) : at::Tensor(),
                at::empty({num_rows * count}, at::kFloat)};
  float* means = kind.is_centred ? result.means.mutable_data_ptr<float>() : nullptr;
  float* inverses = result.inverses.mutable_data_ptr<float>();
  dispatch_dtype(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const T* from = x.const_data_ptr<T>();
    const float* w = factors.scale.const_data_ptr<float>();
    T* to = result.output.mutable_data_ptr<T>();
    at::parallel_for(0, num_rows, 1, [&](int64_t begin, int64_t end) {
      RowScratch scratch(2 * pieces.largest());
      for (int64_t i = begin * count; i < end * count; ++i) {
        const int64_t row = i / count, piece = i % count;
        const int64_t offset = row * pieces.columns + pieces.begin(piece);
        const RowScale scale =
            norm_row<T>({from + offset, w + pieces.weight_of(piece), factors.bias_data(),
                         pieces.size(piece), scratch.data()},
                        to + offset, kind);
        if (means != nullptr) means[i] = scale.mean;
        inverses[i] = scale.inverse;
      }
    });
  });
  return result;
}

struct Gradients {
  at::Tensor input;    // [T, columns]
  at::Tensor weights;  // [blocks, all weights] fp32, still to be added up.
};

Gradients backward_on_cpu(const at::Tensor& gradient, const at::Tensor& x, const Factors& factors,
                          const Pieces& pieces, const Normed& normed) {
  const int64_t num_rows = x.size(0), count = pieces.count();
  const int64_t num_blocks = num_row_blocks(num_rows), num_weights = factors.scale.numel();
  const bool is_centred = normed.means.defined();
  Gradients result{pieces.normed() == pieces.columns ? at::empty_like(x) : gradient.clone(),
                   at::zeros({num_blocks, num_weights}, at::kFloat)};
  dispatch_dtype(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const T* from = x.const_data_ptr<T>();
    const T* upper = gradient.const_data_ptr<T>();
    const float* w = factors.scale.const_data_ptr<float>();
    T* to = result.input.mutable_data_ptr<T>();
    float* partial = result.weights.mutable_data_ptr<float>();
    run_tasks(num_blocks, [&](int64_t block) {
      RowScratch scratch(3 * pieces.largest());
      const Range range = row_block(block, num_rows);
      for (int64_t i = range.begin * count; i < range.end * count; ++i) {
        const int64_t row = i / count, piece = i % count;
        const int64_t offset = row * pieces.columns + pieces.begin(piece);
        const int64_t which = pieces.weight_of(piece);
        const NormRow<T> one{from + offset, w + which, nullptr, pieces.size(piece), scratch.data()};
        float* sum = partial + block * num_weights + which;
        const auto backward = is_centred ? norm_row_backward<true, T> : norm_row_backward<false, T>;
        backward(one, upper + offset, normed.scale(i), to + offset, sum);
      }
    });
  });
  return result;
}

at::Tensor rows_backward(const at::Tensor& gradient, const at::Tensor& x,
                         const NormWeights& weights, const Normed& normed) {
  const Gradients result = backward_on_cpu(gradient, x, factors_of(weights, normed.kind, x.size(1)),
                                           Pieces::whole_row(x.size(1)), normed);
  if (weights.is_without) return result.input;
  at::Tensor scale = weights.scale.gradient();
  if (scale.defined()) add_partial_sums(scale, result.weights);
  if (weights.bias.is_defined() && weights.bias.gradient().defined()) {
    column_sum_out(weights.bias.gradient(), gradient);
  }
  return result.input;
}

at::Tensor heads_backward(const at::Tensor& gradient, const at::Tensor& qkv, const Pieces& pieces,
                          const HeadNormWeights& weights, const Normed& normed) {
  const Gradients result =
      backward_on_cpu(gradient, qkv, factors_of(weights, normed.kind), pieces, normed);
  const at::Tensor both = at::empty({pieces.first_size + pieces.second_size}, at::kFloat);
  add_partial_sums(both, result.weights);
  at::Tensor queries = weights.queries.gradient(), keys = weights.keys.gradient();
  if (queries.defined()) queries.copy_(both.narrow(0, 0, pieces.first_size));
  if (keys.defined()) keys.copy_(both.narrow(0, pieces.first_size, pieces.second_size));
  return result.input;
}

// By ATen operations, for other devices.
Normed forward_elsewhere(const at::Tensor& x, const NormWeights& weights, const NormKind& kind) {
  at::Tensor wide = x.to(at::kFloat), means;
  if (kind.is_centred) {
    means = wide.mean(1);
    wide = wide - means.unsqueeze(1);
  }
  const at::Tensor inverses = at::rsqrt(wide.pow(2).mean(1) + kind.epsilon);
  at::Tensor normed = wide * inverses.unsqueeze(1);
  if (!kind.is_rounded_once) normed = normed.to(x.scalar_type()).to(at::kFloat);
  const Factors factors = factors_of(weights, kind, x.size(1));
  normed = normed * factors.scale.to(x.device());
  if (factors.bias.defined()) normed = normed + factors.bias;
  return {kind, normed.to(x.scalar_type()), means, inverses};
}

at::Tensor backward_elsewhere(const at::Tensor& gradient, const at::Tensor& x,
                              const NormWeights& weights, const Normed& normed) {
  const at::Tensor inverse = normed.inverses.unsqueeze(1);
  at::Tensor n = x.to(at::kFloat);
  if (normed.kind.is_centred) n = n - normed.means.unsqueeze(1);
  n = n * inverse;
  const at::Tensor upper = gradient.to(at::kFloat);
  at::Tensor scale = weights.is_without ? at::Tensor() : weights.scale.gradient();
  if (scale.defined()) scale.copy_((upper * n).sum(0));
  if (weights.bias.is_defined() && weights.bias.gradient().defined()) {
    weights.bias.gradient().copy_(upper.sum(0));
  }
  const at::Tensor d = upper * factors_of(weights, normed.kind, x.size(1)).scale.to(x.device());
  at::Tensor result = d - n * (d * n).mean(1, /*keepdim=*/true);
  if (normed.kind.is_centred) result = result - d.mean(1, /*keepdim=*/true);
  return (inverse * result).to(x.scalar_type());
}

// Each head, or all of them, as a row of its own.
at::Tensor norm_heads_elsewhere(const at::Tensor& qkv, const Heads& heads,
                                const HeadNormWeights& weights, const NormKind& kind) {
  const auto normed = [&](int64_t first_column, int64_t columns, const Weight& weight) {
    const at::Tensor part = qkv.narrow(1, first_column, columns);
    const at::Tensor rows = part.reshape({-1, weight.shape()[0]});
    return norm_rows(rows, {weight, {}}, kind).view(part.sizes());
  };
  return at::cat({normed(0, heads.query_columns(), weights.queries),
                  normed(heads.first_key_column(), heads.key_value_columns(), weights.keys),
                  qkv.narrow(1, heads.first_value_column(), heads.key_value_columns())},
                 1);
}

}  // namespace

at::Tensor norm_rows(const at::Tensor& x, const NormWeights& weights, const NormKind& kind) {
  Normed result = without_graph([&] {
    if (!x.is_cpu()) return forward_elsewhere(x, weights, kind);
    return forward_on_cpu(x, factors_of(weights, kind, x.size(1)), Pieces::whole_row(x.size(1)),
                          kind);
  });
  at::Tensor output = std::exchange(result.output, {});
  return with_backward(std::move(output), {x},
                       [x, weights, normed = std::move(result)](
                           const at::Tensor& gradient) -> std::vector<at::Tensor> {
                         if (!x.is_cpu()) {
                           return {backward_elsewhere(gradient, x, weights, normed)};
                         }
                         return {rows_backward(gradient.contiguous(), x, weights, normed)};
                       });
}

at::Tensor norm_heads(const at::Tensor& qkv, const Heads& heads, const HeadNormWeights& weights,
                      const NormKind& kind) {
  if (!qkv.is_cpu()) return norm_heads_elsewhere(qkv, heads, weights, kind);
  const Pieces pieces = Pieces::of(heads, weights);
  Normed result = forward_on_cpu(qkv, factors_of(weights, kind), pieces, kind);
  at::Tensor output = std::exchange(result.output, {});
  return with_backward(
      std::move(output), {qkv},
      [qkv, pieces, weights,
       normed = std::move(result)](const at::Tensor& gradient) -> std::vector<at::Tensor> {
        return {heads_backward(gradient.contiguous(), qkv, pieces, weights, normed)};
      });
}

}  // namespace temper
