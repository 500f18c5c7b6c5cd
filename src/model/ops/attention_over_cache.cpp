// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "model/ops/attention.h"
#include "model/ops/attention_sinks.h"
#include "model/ops/attention_task.h"
#include "model/ops/rows.h"

namespace temper {
namespace {

// What a thread keeps from task to task, so that nothing is allocated in the steady state.
struct CacheScratch {
  std::vector<float> queries, row, sums, scores;

  static CacheScratch& of_this_thread() {
    thread_local CacheScratch scratch;
    return scratch;
  }
};

// Room for so many numbers; what was there is lost.
float* room(std::vector<float>& memory, int64_t count) {
  if (std::ssize(memory) < count) memory.resize(static_cast<size_t>(count));
  return memory.data();
}

// Reads row after row of a head. They lie apart, between those of other heads, so that the
// processor would not know which to fetch next.
template <typename T, typename Function>
void for_each_row(const T* rows, int64_t row_step, int64_t count, int64_t size, Function function) {
  constexpr int64_t kAhead = 16, kLine = 64 / sizeof(T);
  float* scratch = room(CacheScratch::of_this_thread().row, size);
  for (int64_t k = 0; k < count; ++k) {
    const T* row = rows + k * row_step;
    for (int64_t i = 0; i < size; i += kLine) __builtin_prefetch(row + kAhead * row_step + i);
    function(k, read_row(row, scratch, size));
  }
}

float dot_product(const float* a, const float* b, int64_t size) {
  return at::vec::map2_reduce_all<float>([](Vector x, Vector y) { return x * y; },
                                         [](Vector x, Vector y) { return x + y; }, a, b, size);
}

void add_scaled(float factor, const float* row, int64_t size, float* sum) {
  const Vector wide(factor);
  at::vec::map2<float>([&](Vector x, Vector y) { return at::vec::fmadd(wide, y, x); }, sum, sum,
                       row, size);
}

// Turns a row of scores into exponentials that are not yet divided by their sum, and returns it.
// `sink` is one more score, if there is one.
float exponentiate(float* row, int64_t size, const float* sink) {
  float most = at::vec::reduce_all<float>([](Vector a, Vector b) { return at::vec::maximum(a, b); },
                                          row, size);
  if (sink != nullptr) most = std::max(most, *sink);
  const Vector shift(most);
  at::vec::map<float>([&](Vector x) { return (x - shift).exp(); }, row, row, size);
  const float sum = at::vec::reduce_all<float>([](Vector a, Vector b) { return a + b; }, row, size);
  return sink == nullptr ? sum : sum + std::exp(*sink - most);
}

void bound(float* scores, int64_t size, float softcap) {
  const Vector inner(1.0F / softcap), outer(softcap);
  at::vec::map<float>([&](Vector x) { return (x * inner).tanh() * outer; }, scores, scores, size);
}

// A sequence's own rows, and how many heads there are.
template <typename T>
struct CachedTask {
  const T *queries, *keys, *values;
  T* output;
  int64_t num_queries, num_heads, num_keys, num_key_value_heads, head_dim;
  float scale, softcap;
  const float* sinks;  // [num_heads], or null.

  int64_t group() const { return num_heads / num_key_value_heads; }
  int64_t size() const { return num_queries * num_key_value_heads; }
};

// The query heads of one query that share a head of keys: each key and value is read once for all
// of them.
template <typename T>
void attend(const CachedTask<T>& in, int64_t window, int64_t task) {
  const int64_t size = in.head_dim, group = in.group(), row_step = in.num_key_value_heads * size;
  const int64_t head = task % in.num_key_value_heads;
  const int64_t query = in.num_keys - in.num_queries + task / in.num_key_value_heads;
  const int64_t first = window > 0 ? std::max<int64_t>(0, query - window + 1) : 0;
  const int64_t visible = query + 1 - first, place = task * group * size;
  CacheScratch& scratch = CacheScratch::of_this_thread();
  const float* queries =
      read_row(in.queries + place, room(scratch.queries, group * size), group * size);
  float* scores = room(scratch.scores, group * visible);
  const T* keys = in.keys + first * row_step + head * size;
  for_each_row(keys, row_step, visible, size, [&](int64_t k, const float* key) {
    for (int64_t i = 0; i < group; ++i) {
      scores[i * visible + k] = in.scale * dot_product(queries + i * size, key, size);
    }
  });
  if (in.softcap > 0.0F) bound(scores, group * visible, in.softcap);
  float* sums = row_buffer(in.output + place, room(scratch.sums, group * size));
  std::fill_n(sums, group * size, 0.0F);
  for (int64_t i = 0; i < group; ++i) {
    float* own = scores + i * visible;
    const float* sink = in.sinks == nullptr ? nullptr : in.sinks + head * group + i;
    const Vector scale(1.0F / exponentiate(own, visible, sink));
    at::vec::map<float>([&](Vector x) { return x * scale; }, own, own, visible);
  }
  const T* values = in.values + first * row_step + head * size;
  for_each_row(values, row_step, visible, size, [&](int64_t k, const float* value) {
    for (int64_t i = 0; i < group; ++i) {
      add_scaled(scores[i * visible + k], value, size, sums + i * size);
    }
  });
  write_row(in.output + place, sums, group * size);
}

// One task for each query and head of keys. LibTorch's own function has other bits on other numbers
// of threads where there is one query.
template <typename T>
void on_cpu(const at::Tensor& queries, const std::vector<CachedSequence>& sequences,
            const Heads& heads, int64_t window, const at::Tensor& output) {
  const int64_t columns = output.size(1);
  const at::Tensor sinks = sink_values(heads);
  std::vector<CachedTask<T>> tasks;
  std::vector<int64_t> ends;  // Of each one's parts, among those of all.
  for (const CachedSequence& one : sequences) {
    const int64_t place = one.queries.begin * columns;
    tasks.push_back({queries.const_data_ptr<T>() + place, one.keys.const_data_ptr<T>(),
                     one.values.const_data_ptr<T>(), output.mutable_data_ptr<T>() + place,
                     one.queries.size(), queries.size(1), one.keys.size(0), one.keys.size(1),
                     one.keys.size(2), heads.score_scale(), static_cast<float>(heads.softcap),
                     sinks.defined() ? sinks.const_data_ptr<float>() : nullptr});
    ends.push_back((ends.empty() ? 0 : ends.back()) + tasks.back().size());
  }
  run_tasks(ends.back(), [&](int64_t part) {
    const auto sequence =
        static_cast<size_t>(std::upper_bound(ends.begin(), ends.end(), part) - ends.begin());
    const CachedTask<T>& task = tasks[sequence];
    attend(task, window, part - (ends[sequence] - task.size()));
  });
}

// Row i stands for query first_query + i.
at::Tensor visible_keys(int64_t num_queries, int64_t num_keys, int64_t window, at::Device device) {
  const auto options = at::TensorOptions().dtype(at::kLong).device(device);
  const at::Tensor queries = at::arange(num_keys - num_queries, num_keys, options).unsqueeze(1);
  const at::Tensor distance = queries - at::arange(num_keys, options);
  const at::Tensor is_past = distance >= 0;
  return window > 0 ? is_past.logical_and(distance < window) : is_past;
}

// `sinks` has those of each query, or is undefined. Shapes: [T, num_heads] fp32.
at::Tensor elsewhere(const at::Tensor& queries, const CachedSequence& sequence, const Heads& heads,
                     int64_t window, const at::Tensor& sinks) {
  const auto by_head = [](const at::Tensor& tokens) { return tokens.transpose(0, 1).unsqueeze(0); };
  const at::Tensor own = queries.narrow(0, sequence.queries.begin, sequence.queries.size());
  const int64_t num_keys = sequence.keys.size(0);
  const bool is_causal = own.size(0) == num_keys && (window == 0 || window >= num_keys);
  const auto scale = heads.scale > 0.0 ? std::optional(heads.scale) : std::nullopt;
  if (heads.softcap == 0.0 && !sinks.defined()) {
    const at::Tensor visible =  // None where a kernel knows the mask by itself.
        is_causal ? at::Tensor() : visible_keys(own.size(0), num_keys, window, queries.device());
    const at::Tensor out = at::scaled_dot_product_attention(
        by_head(own), by_head(sequence.keys), by_head(sequence.values),
        is_causal ? std::nullopt : std::optional(visible), /*dropout_p=*/0.0, is_causal, scale,
        /*enable_gqa=*/true);
    return out.squeeze(0).transpose(0, 1).flatten(1);
  }
  const auto repeated = [&](const at::Tensor& tokens) {
    return tokens.repeat_interleave(heads.group(), 1).transpose(0, 1);
  };
  const at::Tensor products =
      own.transpose(0, 1).matmul(repeated(sequence.keys).transpose(1, 2)).to(at::kFloat);
  at::Tensor scores = products * static_cast<double>(heads.score_scale());
  if (heads.softcap > 0.0) scores = (scores / heads.softcap).tanh() * heads.softcap;
  const at::Tensor visible = visible_keys(own.size(0), num_keys, window, queries.device());
  scores = scores.masked_fill(visible.logical_not(), -INFINITY);
  if (sinks.defined()) {
    const at::Tensor own_sinks = sinks.narrow(0, sequence.queries.begin, own.size(0));
    scores = at::cat({scores, own_sinks.t().unsqueeze(2)}, 2);
  }
  const at::Tensor weights = at::softmax(scores, 2).narrow(2, 0, num_keys);
  const at::Tensor out = weights.to(own.scalar_type()).matmul(repeated(sequence.values));
  return out.transpose(0, 1).flatten(1);
}

}  // namespace

at::Tensor attention_over_caches(const at::Tensor& queries,
                                 const std::vector<CachedSequence>& sequences, const Heads& heads,
                                 int64_t window) {
  if (!queries.is_cpu()) {
    std::vector<at::Tensor> outputs;
    const at::Tensor sinks = sinks_of_rows(queries, heads);
    for (const CachedSequence& sequence : sequences) {
      outputs.push_back(elsewhere(queries, sequence, heads, window, sinks));
    }
    return at::cat(outputs);
  }
  const at::Tensor dense = queries.contiguous();
  const at::Tensor output =
      at::empty({dense.size(0), dense.size(1) * dense.size(2)}, dense.options());
  dispatch_dtype(dense.scalar_type(), [&](auto zero) {
    on_cpu<decltype(zero)>(dense, sequences, heads, window, output);
  });
  return output;
}

}  // namespace temper
