// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "model/ops/attention.h"
#include "model/ops/attention_task.h"
#include "model/ops/product.h"
#include "model/ops/rows.h"

namespace temper {
namespace {

// The columns of one head in a [T, columns] tensor, for the rows of one document.
template <typename T>
struct CachedHead {
  T* data;
  int64_t rows;
  int64_t head_dim;
  int64_t stride;
};

// A head as fp32: itself, or converted into `scratch`.
MatrixView read_head(CachedHead<const float> head, std::vector<float>& /*scratch*/) {
  return {const_cast<float*>(head.data), head.rows, head.head_dim, head.stride};
}
MatrixView read_head(CachedHead<const at::BFloat16> head, std::vector<float>& scratch) {
  scratch.resize(static_cast<size_t>(head.rows * head.head_dim));
  for (int64_t row = 0; row < head.rows; ++row) {
    at::vec::convert(head.data + row * head.stride, scratch.data() + row * head.head_dim,
                     head.head_dim);
  }
  return {scratch.data(), head.rows, head.head_dim, head.head_dim};
}

// Where to compute a head that `write_head` then leaves in its tensor.
MatrixView head_buffer(CachedHead<float> head, std::vector<float>& /*scratch*/) {
  return {head.data, head.rows, head.head_dim, head.stride};
}
MatrixView head_buffer(CachedHead<at::BFloat16> head, std::vector<float>& scratch) {
  scratch.resize(static_cast<size_t>(head.rows * head.head_dim));
  return {scratch.data(), head.rows, head.head_dim, head.head_dim};
}
template <typename T>
void write_head(CachedHead<T> head, const MatrixView& buffer) {
  for (int64_t row = 0; row < head.rows; ++row) {
    write_row(head.data + row * head.stride, buffer.data + row * buffer.stride, head.head_dim);
  }
}

// What a thread keeps from task to task, so that nothing is allocated in the steady state.
struct CacheScratch {
  std::vector<float> queries, keys, values, output, scores, row_values;

  static CacheScratch& of_this_thread() {
    thread_local CacheScratch scratch;
    return scratch;
  }
};

struct RowSum {
  float maximum;
  float sum;
};

// Turns a row of scores into exponentials that are not yet divided by their sum.
RowSum exponentiate(float* row, int64_t size) {
  const float maximum = at::vec::reduce_all<float>(
      [](Vector a, Vector b) { return at::vec::maximum(a, b); }, row, size);
  const Vector shift(maximum);
  at::vec::map<float>([&](Vector x) { return (x - shift).exp(); }, row, row, size);
  return {maximum, at::vec::reduce_all<float>([](Vector a, Vector b) { return a + b; }, row, size)};
}

void scale_rows(const MatrixView& matrix, const float* factors) {
  for (int64_t i = 0; i < matrix.rows; ++i) {
    float* row = matrix.data + i * matrix.stride;
    for (int64_t j = 0; j < matrix.columns; ++j) row[j] *= factors[i];
  }
}

struct CacheShape {
  int64_t num_queries, num_heads, num_keys, num_key_value_heads, head_dim;

  int64_t group() const { return num_heads / num_key_value_heads; }
};

template <typename T>
struct CachePointers {
  const T *queries, *keys, *values;
};

// The query heads of one query that share a head of keys.
template <typename T>
void attend(const CachePointers<T>& in, const CacheShape& shape, int64_t window, int64_t task,
            T* output) {
  const int64_t size = shape.head_dim, group = shape.group();
  const int64_t head = task % shape.num_key_value_heads;
  const int64_t query = shape.num_keys - shape.num_queries + task / shape.num_key_value_heads;
  const int64_t first = window > 0 ? std::max<int64_t>(0, query - window + 1) : 0;
  const int64_t visible = query + 1 - first;
  CacheScratch& scratch = CacheScratch::of_this_thread();
  const auto cached = [&](const T* cache, std::vector<float>& memory) {
    const T* own = cache + (first * shape.num_key_value_heads + head) * size;
    return read_head(CachedHead<const T>{own, visible, size, shape.num_key_value_heads * size},
                     memory);
  };
  const int64_t place = task * group * size;
  const MatrixView queries =
      read_head(CachedHead<const T>{in.queries + place, group, size, size}, scratch.queries);
  const CachedHead<T> out{output + place, group, size, size};
  const MatrixView sum = head_buffer(out, scratch.output);
  const auto num_scores = static_cast<size_t>(group * visible);
  if (scratch.scores.size() < num_scores) scratch.scores.resize(num_scores);
  const MatrixView scores{scratch.scores.data(), group, visible, visible};
  multiply(queries, cached(in.keys, scratch.keys).transposed(), scores,
           {.scale = attention_scale(size)});
  scratch.row_values.resize(static_cast<size_t>(group));
  for (int64_t i = 0; i < group; ++i) {
    const RowSum row = exponentiate(scores.data + i * visible, visible);
    scratch.row_values[static_cast<size_t>(i)] = 1.0F / row.sum;
  }
  multiply(scores, cached(in.values, scratch.values), sum, {});
  scale_rows(sum, scratch.row_values.data());
  write_head(out, sum);
}

// One task for each query and head of keys. LibTorch's own function has other bits on other numbers
// of threads where there is one query.
at::Tensor on_cpu(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& values,
                  int64_t window) {
  const CacheShape shape{queries.size(0), queries.size(1), keys.size(0), keys.size(1),
                         keys.size(2)};
  const at::Tensor dense = queries.contiguous();
  const at::Tensor output =
      at::empty({shape.num_queries, shape.num_heads * shape.head_dim}, queries.options());
  dispatch_dtype(queries.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const CachePointers<T> in{dense.const_data_ptr<T>(), keys.const_data_ptr<T>(),
                              values.const_data_ptr<T>()};
    T* to = output.mutable_data_ptr<T>();
    run_tasks(shape.num_queries * shape.num_key_value_heads,
              [&](int64_t task) { attend(in, shape, window, task, to); });
  });
  return output;
}

// Row i stands for query first_query + i.
at::Tensor visible_keys(int64_t num_queries, int64_t num_keys, int64_t window, at::Device device) {
  const auto options = at::TensorOptions().dtype(at::kLong).device(device);
  const at::Tensor queries = at::arange(num_keys - num_queries, num_keys, options).unsqueeze(1);
  const at::Tensor distance = queries - at::arange(num_keys, options);
  const at::Tensor is_past = distance >= 0;
  return window > 0 ? is_past.logical_and(distance < window) : is_past;
}

}  // namespace

at::Tensor attention_over_cache(const at::Tensor& queries, const at::Tensor& keys,
                                const at::Tensor& values, int64_t window) {
  if (queries.is_cpu()) return on_cpu(queries, keys, values, window);
  const auto by_head = [](const at::Tensor& tokens) { return tokens.transpose(0, 1).unsqueeze(0); };
  const at::Tensor visible = visible_keys(queries.size(0), keys.size(0), window, queries.device());
  const at::Tensor out = at::scaled_dot_product_attention(
      by_head(queries), by_head(keys), by_head(values), visible, /*dropout_p=*/0.0,
      /*is_causal=*/false, /*scale=*/std::nullopt, /*enable_gqa=*/true);
  return out.squeeze(0).transpose(0, 1).flatten(1);
}

}  // namespace temper
