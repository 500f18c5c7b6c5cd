// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>

#include <cmath>
#include <limits>
#include <vector>

#include "model/ops/attention_sinks.h"
#include "model/ops/attention_task.h"
#include "model/ops/attention_tile.h"

namespace temper {
namespace {

// The softmax of each query of a tile, block by block of the keys.
struct Softmax {
  TileRow maxima;  // Of the scores, not yet scaled.
  TileRow sums{};  // Of exp(scale (score - maximum)).
  TileRow decay;   // By which what was summed before the last block is to be multiplied.

  Softmax() { maxima.fill(std::numeric_limits<float>::lowest()); }

  // With a score that comes before those of all keys.
  Softmax(float sink, float scale) {
    maxima.fill(sink / scale);
    sums.fill(1.0F);
  }
};

// Turns scores into exponentials that are not yet divided by their sum.
void exponentiate(float* scores, int64_t num_keys, float scale, Softmax& softmax) {
  for (int64_t column = 0; column < kQueriesPerTile; column += Columns::size()) {
    float* first = scores + column;
    const Columns before = Columns::loadu(softmax.maxima.data() + column);
    Columns most = before;
    for (int64_t key = 0; key < num_keys; ++key) {
      most = at::vec::maximum(most, Columns::loadu(first + key * kQueriesPerTile));
    }
    const Columns factor(scale), shift = (most * factor).neg();
    const Columns decay = at::vec::fmadd(before, factor, shift).exp_u20();
    Columns sum = Columns::loadu(softmax.sums.data() + column) * decay;
    for (int64_t key = 0; key < num_keys; ++key) {
      const int64_t place = key * kQueriesPerTile;
      const Columns weight = at::vec::fmadd(Columns::loadu(first + place), factor, shift).exp_u20();
      sum = sum + weight;
      weight.store(first + place);
    }
    most.store(softmax.maxima.data() + column);
    sum.store(softmax.sums.data() + column);
    decay.store(softmax.decay.data() + column);
  }
}

// What the output of each query is to be multiplied with. An exponential hides a score that is not
// a number, but its maximum does not.
TileRow finish(const Softmax& softmax, float scale, int64_t num_queries, float* log_sums) {
  TileRow factors;
  for (size_t i = 0; i < factors.size(); ++i) {
    const float one = 1.0F + (softmax.maxima[i] - softmax.maxima[i]);
    factors[i] = one / softmax.sums[i];
    if (static_cast<int64_t>(i) < num_queries) {
      log_sums[i] = scale * softmax.maxima[i] + std::log(softmax.sums[i]);
    }
  }
  return factors;
}

// What the products of one head of one document are made of.
template <typename Tile>
struct ForwardFactors {
  KeyRows<Tile> keys;
  TransposedKeys<Tile> values;

  template <typename From>
  ForwardFactors(const HeadOfDocument<From>& in, const Document& document,
                 AttentionScratch& scratch)
      : keys(in.keys, document, scratch.keys), values(in.values, document, scratch.transposed) {}
};

// Leaves the sums of one tile in scratch.sum, [head_dim, kQueriesPerTile], not yet divided.
template <typename Tile>
Softmax attend_tile(const QueryTile& tile, const QueryFactors<Tile>& queries,
                    const ForwardFactors<Tile>& in, const Heads& heads, Softmax softmax) {
  AttentionScratch& scratch = AttentionScratch::of_this_thread();
  const ScoreRule rule(heads);
  const int64_t head_dim = heads.head_dim;
  float* scores = scratch.scores.of(kKeysPerBlock * kQueriesPerTile);
  float* sum = scratch.sum.of(head_dim * kQueriesPerTile);
  tile.for_each_block([&](Range block) {
    const int64_t count = block.size();
    multiply_tiles({count, kQueriesPerTile, in.keys.depth}, in.keys.from(block.begin),
                   queries.columns, {scores, kQueriesPerTile, false});
    rule.apply(scores, count);
    tile.hide(block, scores);
    exponentiate(scores, count, rule.factor(), softmax);
    const bool is_begun = block.begin > tile.first_key;
    if (is_begun) scale_columns(sum, head_dim, softmax.decay);
    const ScoreSource weights{scores, count};
    multiply_tiles({head_dim, kQueriesPerTile, count}, in.values.from(block.begin),
                   weights.as_second<Tile>(scratch.weights.columns),
                   {sum, kQueriesPerTile, is_begun});
  });
  return softmax;
}

// What one task writes.
template <typename T>
struct HeadOutput {
  HeadColumns<T> rows;
  float* log_sums;    // [size]
  const float* sink;  // Of the head, or null.
};

template <typename Tile, typename T>
void attend(const HeadOfDocument<const T>& in, const HeadOutput<T>& output,
            const Document& document, const Heads& heads, int64_t window) {
  AttentionScratch& scratch = AttentionScratch::of_this_thread();
  const float scale = ScoreRule(heads).factor();
  const ForwardFactors<Tile> factors(in, document, scratch);
  for (int64_t first = 0; first < document.size; first += kQueriesPerTile) {
    const QueryTile tile(first, document, window);
    const QueryFactors<Tile> queries(in.queries.rows(tile.begin, tile.end),
                                     QueryFactors<Tile>::Needs::kColumns, scratch.queries);
    const Softmax begun = output.sink == nullptr ? Softmax() : Softmax(*output.sink, scale);
    const Softmax softmax = attend_tile(tile, queries, factors, heads, begun);
    float* sum = scratch.sum.of(heads.head_dim * kQueriesPerTile);
    scale_columns(sum, heads.head_dim,
                  finish(softmax, scale, tile.size(), output.log_sums + tile.begin));
    write_sums(sum, output.rows.rows(tile.begin, tile.end), scratch.rows);
  }
}

}  // namespace

// In products of tiles, without those that the mask hides.
AttentionResult attention_forward(const at::Tensor& qkv, const Heads& heads,
                                  const AttentionMask& mask) {
  const int64_t num_rows = qkv.size(0);
  AttentionResult result{at::empty({num_rows, heads.query_columns()}, qkv.options()),
                         at::empty({heads.num_heads, num_rows}, at::kFloat)};
  float* log_sums = result.log_sums.mutable_data_ptr<float>();
  const at::Tensor sinks = sink_values(heads);
  const float* first_sink = sinks.defined() ? sinks.const_data_ptr<float>() : nullptr;
  const std::vector<Document> documents = longest_first(documents_of(mask));
  dispatch_tiles(qkv.scalar_type(), [&](auto element, auto tile) {
    using T = decltype(element);
    const T* from = qkv.const_data_ptr<T>();
    T* to = result.output.mutable_data_ptr<T>();
    for_each_head(documents, heads, [&](const Document& document, int64_t head) {
      const HeadOfDocument<const T> in(from, document, head, heads);
      const HeadOutput<T> out{query_head(to, document, head, heads),
                              log_sums + head * num_rows + document.begin,
                              first_sink == nullptr ? nullptr : first_sink + head};
      attend<decltype(tile)>(in, out, document, heads, mask.window);
    });
  });
  return result;
}

}  // namespace temper
