// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>

#include <cmath>

#include "model/ops/attention_cpu.h"
#include "model/ops/attention_tile.h"

namespace temper {
namespace {

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

// Returns what each row of the output is to be multiplied with.
const float* exponentiate_tile(const QueryTile& tile, const MatrixView& scores, float* log_sums,
                               std::vector<float>& factors) {
  factors.resize(static_cast<size_t>(scores.rows));
  for (int64_t i = 0; i < scores.rows; ++i) {
    float* row = scores.data + i * scores.stride;
    const Range visible = tile.visible(i);
    clear_outside(row, visible, scores.columns);
    const RowSum sum = exponentiate(row + visible.begin, visible.size());
    factors[static_cast<size_t>(i)] = 1.0F / sum.sum;
    log_sums[i] = sum.maximum + std::log(sum.sum);
  }
  return factors.data();
}

void scale_rows(const MatrixView& matrix, const float* factors) {
  for (int64_t i = 0; i < matrix.rows; ++i) {
    float* row = matrix.data + i * matrix.stride;
    for (int64_t j = 0; j < matrix.columns; ++j) row[j] *= factors[i];
  }
}

void attend(const HeadInputs& in, const MatrixView& output, int64_t window, float scale,
            float* log_sums) {
  AttentionScratch& scratch = AttentionScratch::of_this_thread();
  for (int64_t first = 0; first < output.rows; first += kQueriesPerTile) {
    const QueryTile tile(first, output.rows, window);
    const MatrixView scores = tile.scores_in(scratch.scores);
    multiply(tile.of_queries(in.queries), tile.of_keys(in.keys).transposed(), scores,
             {.scale = scale});
    const float* factors =
        exponentiate_tile(tile, scores, log_sums + tile.begin, scratch.row_values);
    multiply(scores, tile.of_keys(in.values), tile.of_queries(output), {});
    scale_rows(tile.of_queries(output), factors);
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
void attend_over_cache(const CachePointers<T>& in, const CacheShape& shape, int64_t window,
                       int64_t task, T* output) {
  const int64_t size = shape.head_dim, group = shape.group();
  const int64_t head = task % shape.num_key_value_heads;
  const int64_t query = shape.num_keys - shape.num_queries + task / shape.num_key_value_heads;
  const int64_t first = window > 0 ? std::max<int64_t>(0, query - window + 1) : 0;
  const int64_t visible = query + 1 - first;
  AttentionScratch& scratch = AttentionScratch::of_this_thread();
  const auto cached = [&](const T* cache, std::vector<float>& memory) {
    const T* own = cache + (first * shape.num_key_value_heads + head) * size;
    return read_head(HeadColumns<const T>{own, visible, size, shape.num_key_value_heads * size},
                     memory);
  };
  const int64_t place = task * group * size;
  const MatrixView queries =
      read_head(HeadColumns<const T>{in.queries + place, group, size, size}, scratch.queries);
  const HeadColumns<T> out{output + place, group, size, size};
  const MatrixView sum = head_buffer(out, scratch.output);
  const auto num_scores = static_cast<size_t>(group * visible);
  if (scratch.scores.size() < num_scores) scratch.scores.resize(num_scores);
  const MatrixView scores{scratch.scores.data(), group, visible, visible};
  const float scale = 1.0F / std::sqrt(static_cast<float>(size));
  multiply(queries, cached(in.keys, scratch.keys).transposed(), scores, {.scale = scale});
  scratch.row_values.resize(static_cast<size_t>(group));
  for (int64_t i = 0; i < group; ++i) {
    const RowSum row = exponentiate(scores.data + i * visible, visible);
    scratch.row_values[static_cast<size_t>(i)] = 1.0F / row.sum;
  }
  multiply(scores, cached(in.values, scratch.values), sum, {});
  scale_rows(sum, scratch.row_values.data());
  write_head(out, sum);
}

}  // namespace

AttentionResult attention_on_cpu(const at::Tensor& qkv, const Heads& heads,
                                 const AttentionMask& mask) {
  const int64_t num_rows = qkv.size(0), columns = heads.query_columns();
  AttentionResult result{at::empty({num_rows, columns}, qkv.options()),
                         at::empty({heads.num_heads, num_rows}, at::kFloat)};
  float* log_sums = result.log_sums.mutable_data_ptr<float>();
  dispatch_dtype(qkv.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const T* from = qkv.const_data_ptr<T>();
    T* to = result.output.mutable_data_ptr<T>();
    run_tasks(HeadTask::count(heads, mask), [&](int64_t index) {
      const HeadTask task(index, heads, mask);
      AttentionScratch& scratch = AttentionScratch::of_this_thread();
      const HeadInputs in(from, task, heads, scratch);
      const auto place = task.columns(to, columns, task.head * heads.head_dim, heads);
      const MatrixView output = head_buffer(place, scratch.output);
      attend(in, output, mask.window, attention_scale(heads),
             log_sums + task.head * num_rows + task.begin);
      write_head(place, output);
    });
  });
  return result;
}

// One task for each query and head of keys. LibTorch's own function has other bits on other numbers
// of threads where there is one query.
at::Tensor attention_over_cache_on_cpu(const at::Tensor& queries, const at::Tensor& keys,
                                       const at::Tensor& values, int64_t window) {
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
              [&](int64_t task) { attend_over_cache(in, shape, window, task, to); });
  });
  return output;
}

}  // namespace temper
