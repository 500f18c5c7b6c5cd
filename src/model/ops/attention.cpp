// SPDX-License-Identifier: Apache-2.0
#include "model/ops/attention.h"

#include <ATen/ATen.h>

#include <cmath>
#include <utility>

#include "model/ops/attention_tile.h"
#include "model/ops/backward.h"

namespace temper {
namespace {

struct Result {
  at::Tensor output;    // [T, query_columns]
  at::Tensor log_sums;  // [num_heads, T] fp32, of each row's exponentials
};

void clear_outside(float* row, Range visible, int64_t size) {
  std::fill(row, row + visible.begin, 0.0F);
  std::fill(row + visible.end, row + size, 0.0F);
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

// In matrix products over tiles, without those that the mask hides: in fp32, whatever the dtype.
Result forward_on_cpu(const at::Tensor& qkv, const Heads& heads, const AttentionMask& mask) {
  const int64_t num_rows = qkv.size(0), columns = heads.query_columns();
  Result result{at::empty({num_rows, columns}, qkv.options()),
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
      attend(in, output, mask.window, attention_scale(heads.head_dim),
             log_sums + task.head * num_rows + task.begin);
      write_head(place, output);
    });
  });
  return result;
}

// What one task reads and writes. Each is [size, head_dim].
struct HeadGradients {
  MatrixView output;           // Of the forward pass.
  MatrixView output_gradient;  // Given.
  MatrixView queries;
  MatrixView keys;    // One for each *query* head.
  MatrixView values;  // One for each query head.
};

// exp(score - log_sum): the probabilities of the forward pass.
void recompute_probabilities(const QueryTile& tile, const MatrixView& scores,
                             const float* log_sums) {
  for (int64_t i = 0; i < scores.rows; ++i) {
    float* row = scores.data + i * scores.stride;
    const Range visible = tile.visible(i);
    clear_outside(row, visible, scores.columns);
    const Vector shift(log_sums[i]);
    float* first = row + visible.begin;
    at::vec::map<float>([&](Vector x) { return (x - shift).exp(); }, first, first, visible.size());
  }
}

// The gradient of the scores, left in `upper`: p (upper - sum over the row of output * gradient).
void to_score_gradient(const MatrixView& upper, const MatrixView& probabilities,
                       const MatrixView& output, const MatrixView& output_gradient) {
  for (int64_t i = 0; i < upper.rows; ++i) {
    const float delta = at::vec::map2_reduce_all<float>(
        [](Vector a, Vector b) { return a * b; }, [](Vector a, Vector b) { return a + b; },
        output.data + i * output.stride, output_gradient.data + i * output_gradient.stride,
        output.columns);
    float* row = upper.data + i * upper.stride;
    const float* p = probabilities.data + i * probabilities.stride;
    for (int64_t j = 0; j < upper.columns; ++j) row[j] = p[j] * (row[j] - delta);
  }
}

void clear(const MatrixView& matrix) {
  for (int64_t i = 0; i < matrix.rows; ++i) {
    std::fill_n(matrix.data + i * matrix.stride, matrix.columns, 0.0F);
  }
}

void attend_backward(const HeadInputs& in, const HeadGradients& gradients, int64_t window,
                     float scale, const float* log_sums) {
  AttentionScratch& scratch = AttentionScratch::of_this_thread();
  clear(gradients.keys);
  clear(gradients.values);
  for (int64_t first = 0; first < gradients.output.rows; first += kQueriesPerTile) {
    const QueryTile tile(first, gradients.output.rows, window);
    const MatrixView queries = tile.of_queries(in.queries), keys = tile.of_keys(in.keys);
    const MatrixView given = tile.of_queries(gradients.output_gradient);
    const MatrixView probabilities = tile.scores_in(scratch.scores);
    multiply(queries, keys.transposed(), probabilities, {.scale = scale});
    recompute_probabilities(tile, probabilities, log_sums + tile.begin);
    multiply(probabilities.transposed(), given, tile.of_keys(gradients.values), {.keep = 1.0F});
    const MatrixView upper = tile.scores_in(scratch.score_gradient);
    multiply(given, tile.of_keys(in.values).transposed(), upper, {});
    to_score_gradient(upper, probabilities, tile.of_queries(gradients.output), given);
    multiply(upper, keys, tile.of_queries(gradients.queries), {.scale = scale});
    multiply(upper.transposed(), queries, tile.of_keys(gradients.keys),
             {.scale = scale, .keep = 1.0F});
  }
}

// Adds up, in order, what the query heads of each group have left for their key-value head.
// Shapes: partial [num_heads, T, 2 head_dim], gradient [T, columns].
template <typename T>
void sum_groups(const float* partial, T* gradient, int64_t num_rows, const Heads& heads) {
  const int64_t size = heads.head_dim;
  at::parallel_for(0, num_rows, 1, [&](int64_t begin, int64_t end) {
    RowScratch scratch(2 * size);
    for (int64_t i = begin * heads.num_key_value_heads; i < end * heads.num_key_value_heads; ++i) {
      const int64_t row = i / heads.num_key_value_heads, head = i % heads.num_key_value_heads;
      float* sum = scratch.data();
      std::fill_n(sum, 2 * size, 0.0F);
      for (int64_t j = head * heads.group(); j < (head + 1) * heads.group(); ++j) {
        const float* part = partial + (j * num_rows + row) * 2 * size;
        for (int64_t c = 0; c < 2 * size; ++c) sum[c] += part[c];
      }
      T* keys = gradient + row * heads.columns() + heads.first_key_column() + head * size;
      for (int64_t c = 0; c < size; ++c) {
        keys[c] = static_cast<T>(sum[c]);
        keys[heads.key_value_columns() + c] = static_cast<T>(sum[size + c]);
      }
    }
  });
}

// Returns the gradient of qkv. The probabilities are computed again.
at::Tensor backward_on_cpu(const at::Tensor& gradient, const at::Tensor& qkv, const Heads& heads,
                           const AttentionMask& mask, const Result& result) {
  const int64_t num_rows = qkv.size(0), size = heads.head_dim;
  const int64_t query_columns = heads.query_columns();
  at::Tensor qkv_gradient = at::empty_like(qkv);
  const at::Tensor partial = at::empty({heads.num_heads, num_rows, 2 * size}, at::kFloat);
  float* kv_gradient = partial.mutable_data_ptr<float>();
  const float* log_sums = result.log_sums.const_data_ptr<float>();
  dispatch_dtype(qkv.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const T* from = qkv.const_data_ptr<T>();
    const T* output = result.output.const_data_ptr<T>();
    const T* given = gradient.const_data_ptr<T>();
    T* to = qkv_gradient.mutable_data_ptr<T>();
    run_tasks(HeadTask::count(heads, mask), [&](int64_t index) {
      const HeadTask task(index, heads, mask);
      AttentionScratch& scratch = AttentionScratch::of_this_thread();
      const int64_t column = task.head * size;
      const auto place = task.columns(to, heads.columns(), column, heads);
      float* kv = kv_gradient + (task.head * num_rows + task.begin) * 2 * size;
      const HeadGradients gradients{
          read_head(task.columns(output, query_columns, column, heads), scratch.output),
          read_head(task.columns(given, query_columns, column, heads), scratch.output_gradient),
          head_buffer(place, scratch.query_gradient),
          {kv, task.size, size, 2 * size},
          {kv + size, task.size, size, 2 * size}};
      attend_backward(HeadInputs(from, task, heads, scratch), gradients, mask.window,
                      attention_scale(heads.head_dim),
                      log_sums + task.head * num_rows + task.begin);
      write_head(place, gradients.queries);
    });
    sum_groups(kv_gradient, to, num_rows, heads);
  });
  return qkv_gradient;
}

// By differentiable ATen operations, document by document.
at::Tensor elsewhere(const at::Tensor& qkv, const Heads& heads, const AttentionMask& mask) {
  const auto part = [&](int64_t first_column, int64_t num_heads) {
    return qkv.narrow(1, first_column, num_heads * heads.head_dim)
        .unflatten(1, {num_heads, heads.head_dim});
  };
  const at::Tensor queries = part(0, heads.num_heads);
  const at::Tensor keys = part(heads.first_key_column(), heads.num_key_value_heads);
  const at::Tensor values = part(heads.first_value_column(), heads.num_key_value_heads);
  std::vector<at::Tensor> documents;
  for (size_t i = 0; i + 1 < mask.document_begins.size(); ++i) {
    const int64_t begin = mask.document_begins[i], size = mask.document_begins[i + 1] - begin;
    documents.push_back(attention_over_cache(queries.narrow(0, begin, size),
                                             keys.narrow(0, begin, size),
                                             values.narrow(0, begin, size), mask.window));
  }
  return at::cat(documents);
}

}  // namespace

at::Tensor attention(const at::Tensor& qkv, const Heads& heads, const AttentionMask& mask) {
  if (!qkv.is_cpu()) return elsewhere(qkv, heads, mask);
  Result result = forward_on_cpu(qkv, heads, mask);
  return with_backward(result.output, {qkv},
                       [qkv, heads, mask, kept = Result{result.output.detach(), result.log_sums}](
                           const at::Tensor& gradient) -> std::vector<at::Tensor> {
                         return {backward_on_cpu(gradient.contiguous(), qkv, heads, mask, kept)};
                       });
}

AttentionBytes attention_bytes(const Heads& heads, const AttentionWork& work, int num_threads) {
  constexpr int64_t kFloatBytes = sizeof(float);
  const int64_t size = work.longest_document;
  const int64_t scores = 2 * kQueriesPerTile * QueryTile::widest(size, work.window);
  // Queries, keys, values, output and the gradients of output and queries, unless they are fp32.
  const int64_t converted = work.element_bytes == kFloatBytes ? 0 : 6 * size * heads.head_dim;
  return {num_threads * (scores + converted) * kFloatBytes,
          heads.num_heads * work.num_tokens * 2 * heads.head_dim * kFloatBytes};
}

}  // namespace temper
