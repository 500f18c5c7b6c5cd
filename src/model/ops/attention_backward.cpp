// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "model/ops/attention_task.h"
#include "model/ops/attention_tile.h"

namespace temper {
namespace {

// What one task reads and writes besides its queries, keys and values.
template <typename T>
struct HeadGradients {
  HeadColumns<const T> output;           // Of the forward pass.
  HeadColumns<const T> output_gradient;  // Given.
  const float* log_sums;                 // [size]
  HeadColumns<T> queries;
  float* keys;  // [padded, 2 head_dim]: of keys, then values, and one for each *query* head.
};

// The sums of output * gradient over the row of each query.
template <typename T>
TileRow deltas_of(HeadColumns<const T> output, HeadColumns<const T> gradient) {
  TileRow deltas{};
  for (int64_t i = 0; i < output.size; ++i) {
    deltas[static_cast<size_t>(i)] = at::vec::map2_reduce_all<T>(
        [](const auto& a, const auto& b) { return a * b; },
        [](const auto& a, const auto& b) { return a + b; }, output.data + i * output.stride,
        gradient.data + i * gradient.stride, output.head_dim);
  }
  return deltas;
}

// With the log-sum of what is no query, its weights are 0.
TileRow padded_log_sums(const float* log_sums, int64_t num_queries) {
  TileRow padded;
  padded.fill(INFINITY);
  std::copy_n(log_sums, num_queries, padded.begin());
  return padded;
}

// The queries of one tile and what comes back to their outputs.
template <typename Tile>
struct TileInputs {
  QueryFactors<Tile> queries, given;
  TileRow deltas, log_sums;
};

struct ScoreBlock {
  float* scores;     // [num_keys, kQueriesPerTile], hidden where the mask hides them.
  float* gradients;  // Of the weights. Shapes: likewise.
  int64_t num_keys;
};

// From the scores to the weights p of the forward pass, exp(scale score - log_sum), and from the
// weights' gradient to the scores': scale p (gradient - delta).
template <typename Tile>
void to_score_gradients(const ScoreBlock& block, const TileInputs<Tile>& of_tile, float scale) {
  const Columns factor(scale);
  const int64_t end = block.num_keys * kQueriesPerTile;
  for (int64_t column = 0; column < kQueriesPerTile; column += Columns::size()) {
    const Columns delta = Columns::loadu(of_tile.deltas.data() + column);
    const Columns shift = Columns::loadu(of_tile.log_sums.data() + column).neg();
    for (int64_t place = column; place < end; place += kQueriesPerTile) {
      const Columns weight =
          at::vec::fmadd(Columns::loadu(block.scores + place), factor, shift).exp_u20();
      const Columns gradient = Columns::loadu(block.gradients + place) - delta;
      weight.store(block.scores + place);
      (weight * factor * gradient).store(block.gradients + place);
    }
  }
}

// The same where the scores are bounded: `bounded` is what they were bounded to.
template <typename Tile>
void to_score_gradients(const ScoreBlock& block, const TileInputs<Tile>& of_tile,
                        const ScoreRule& rule, TileMemory& bounded) {
  if (rule.softcap == 0.0F) return to_score_gradients(block, of_tile, rule.factor());
  const int64_t count = block.num_keys * kQueriesPerTile;
  float* kept = bounded.of(kKeysPerBlock * kQueriesPerTile);
  std::copy_n(block.scores, count, kept);
  to_score_gradients(block, of_tile, rule.factor());
  rule.apply_slope(kept, block.gradients, block.num_keys);
}

// What the products of one head of one document are made of.
template <typename Tile>
struct BackwardFactors {
  KeyRows<Tile> keys, values;
  TransposedKeys<Tile> transposed_keys;

  template <typename From>
  BackwardFactors(const HeadOfDocument<From>& in, const Document& document,
                  AttentionScratch& scratch)
      : keys(in.keys, document, scratch.keys),
        values(in.values, document, scratch.values),
        transposed_keys(in.keys, document, scratch.transposed) {}
};

// Adds what one tile contributes to the gradients of keys and values, and leaves that of its
// queries in scratch.sum, [head_dim, kQueriesPerTile].
template <typename Tile>
void attend_tile_backward(const QueryTile& tile, const TileInputs<Tile>& of_tile,
                          const BackwardFactors<Tile>& in, const Heads& heads,
                          float* key_gradients) {
  AttentionScratch& scratch = AttentionScratch::of_this_thread();
  const ScoreRule rule(heads);
  const int64_t size = heads.head_dim, stride = 2 * size;
  float* scores = scratch.scores.of(kKeysPerBlock * kQueriesPerTile);
  float* upper = scratch.score_gradients.of(kKeysPerBlock * kQueriesPerTile);
  float* sum = scratch.sum.of(size * kQueriesPerTile);
  tile.for_each_block([&](Range block) {
    const int64_t count = block.size();
    float* key_gradient = key_gradients + block.begin * stride;
    const TileShape of_scores{count, kQueriesPerTile, in.keys.depth};
    const TileShape of_keys{count, size, kQueriesPerTile};
    multiply_tiles(of_scores, in.keys.from(block.begin), of_tile.queries.columns,
                   {scores, kQueriesPerTile, false});
    multiply_tiles(of_scores, in.values.from(block.begin), of_tile.given.columns,
                   {upper, kQueriesPerTile, false});
    rule.apply(scores, count);
    tile.hide(block, scores);
    to_score_gradients({scores, upper, count}, of_tile, rule, scratch.bounded);
    const ScoreSource weights{scores, count}, gradients{upper, count};
    multiply_tiles(of_keys, weights.as_first<Tile>(scratch.weights.rows), of_tile.given.rows,
                   {key_gradient + size, stride, true});
    multiply_tiles(of_keys, gradients.as_first<Tile>(scratch.weights.rows), of_tile.queries.rows,
                   {key_gradient, stride, true});
    multiply_tiles({size, kQueriesPerTile, count}, in.transposed_keys.from(block.begin),
                   gradients.as_second<Tile>(scratch.weights.columns),
                   {sum, kQueriesPerTile, block.begin > tile.first_key});
  });
}

template <typename Tile, typename T>
void attend_backward(const HeadOfDocument<const T>& in, const HeadGradients<T>& gradients,
                     const Document& document, const Heads& heads, int64_t window) {
  constexpr auto kBoth = QueryFactors<Tile>::Needs::kBoth;
  AttentionScratch& scratch = AttentionScratch::of_this_thread();
  const int64_t size = in.keys.head_dim;
  const BackwardFactors<Tile> factors(in, document, scratch);
  std::fill_n(gradients.keys, document.padded * 2 * size, 0.0F);
  for (int64_t first = 0; first < document.size; first += kQueriesPerTile) {
    const QueryTile tile(first, document, window);
    const auto given = gradients.output_gradient.rows(tile.begin, tile.end);
    const TileInputs<Tile> of_tile{
        .queries = {in.queries.rows(tile.begin, tile.end), kBoth, scratch.queries},
        .given = {given, kBoth, scratch.gradients},
        .deltas = deltas_of(gradients.output.rows(tile.begin, tile.end), given),
        .log_sums = padded_log_sums(gradients.log_sums + tile.begin, tile.size())};
    attend_tile_backward(tile, of_tile, factors, heads, gradients.keys);
    write_sums(scratch.sum.of(size * kQueriesPerTile), gradients.queries.rows(tile.begin, tile.end),
               scratch.rows);
  }
}

// Adds up, in order, what the query heads of each group have left for their key-value head.
// Shapes: partial [num_heads, num_padded, 2 head_dim], gradient [T, columns]; places [T].
template <typename T>
void sum_groups(const at::Tensor& partial, const std::vector<int64_t>& places, T* gradient,
                const Heads& heads) {
  const int64_t size = heads.head_dim, num_padded = partial.size(1);
  const float* parts = partial.const_data_ptr<float>();
  at::parallel_for(0, static_cast<int64_t>(places.size()), 1, [&](int64_t begin, int64_t end) {
    RowScratch scratch(2 * size);
    for (int64_t i = begin * heads.num_key_value_heads; i < end * heads.num_key_value_heads; ++i) {
      const int64_t row = i / heads.num_key_value_heads, head = i % heads.num_key_value_heads;
      float* sum = scratch.data();
      std::fill_n(sum, 2 * size, 0.0F);
      for (int64_t j = head * heads.group(); j < (head + 1) * heads.group(); ++j) {
        const float* part = parts + (j * num_padded + places[static_cast<size_t>(row)]) * 2 * size;
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

// Where each row is if all documents are padded.
std::vector<int64_t> padded_places(const std::vector<Document>& documents) {
  std::vector<int64_t> places;
  for (const Document& document : documents) {
    for (int64_t i = 0; i < document.size; ++i) places.push_back(document.place + i);
  }
  return places;
}

}  // namespace

// The weights are computed again.
at::Tensor attention_backward(const at::Tensor& gradient, const at::Tensor& qkv, const Heads& heads,
                              const AttentionMask& mask, const AttentionResult& result) {
  const int64_t num_rows = qkv.size(0);
  const std::vector<Document> in_order = documents_of(mask);
  const std::vector<Document> documents = longest_first(in_order);
  const int64_t num_padded = in_order.back().place + in_order.back().padded;
  at::Tensor qkv_gradient = at::empty_like(qkv);
  const at::Tensor partial =
      at::empty({heads.num_heads, num_padded, 2 * heads.head_dim}, at::kFloat);
  float* key_gradients = partial.mutable_data_ptr<float>();
  const float* log_sums = result.log_sums.const_data_ptr<float>();
  dispatch_tiles(qkv.scalar_type(), [&](auto element, auto tile) {
    using T = decltype(element);
    const T* from = qkv.const_data_ptr<T>();
    const T* output = result.output.const_data_ptr<T>();
    const T* given = gradient.const_data_ptr<T>();
    T* to = qkv_gradient.mutable_data_ptr<T>();
    for_each_head(documents, heads, [&](const Document& document, int64_t head) {
      const HeadGradients<T> gradients{
          query_head(output, document, head, heads), query_head(given, document, head, heads),
          log_sums + head * num_rows + document.begin,
          HeadOfDocument<T>(to, document, head, heads).queries,
          key_gradients + (head * num_padded + document.place) * 2 * heads.head_dim};
      const HeadOfDocument<const T> in(from, document, head, heads);
      attend_backward<decltype(tile)>(in, gradients, document, heads, mask.window);
    });
    sum_groups(partial, padded_places(in_order), to, heads);
  });
  return qkv_gradient;
}

}  // namespace temper
