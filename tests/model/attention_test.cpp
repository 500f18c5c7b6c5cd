// SPDX-License-Identifier: Apache-2.0
// Attention over packed documents is what its formula says, with the same bits for any number of
// threads and wherever a document lies.
#include "model/ops/attention.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "core/concat.h"
#include "model/ops/one_thread.h"

namespace temper {
namespace {

namespace data = boost::unit_test::data;

struct Case {
  Heads heads;
  std::vector<int64_t> sizes;  // Of the documents.
  int64_t window;

  AttentionMask mask() const {
    AttentionMask mask{{0}, window};
    for (const int64_t size : sizes)
      mask.document_begins.push_back(mask.document_begins.back() + size);
    return mask;
  }
  int64_t num_rows() const { return mask().document_begins.back(); }
};

std::ostream& operator<<(std::ostream& out, const Case& one) {
  out << one.heads.num_heads << '/' << one.heads.num_key_value_heads << " heads of "
      << one.heads.head_dim << (one.heads.sinks.is_defined() ? " with sinks" : "") << ", window "
      << one.window << ", documents of";
  for (const int64_t size : one.sizes) out << ' ' << size;
  return out;
}

// Sinks below, among and above scores.
Heads with_sinks(Heads heads) {
  auto buffers = std::make_shared<UnitBuffers>();
  buffers->weights = at::linspace(-3.0, 4.0, heads.num_heads);
  buffers->gradients = at::empty({heads.num_heads});
  heads.sinks = Weight(std::move(buffers), 0, {heads.num_heads});
  return heads;
}

// Documents within a tile of queries and beyond, within a block of keys and beyond; windows that
// end within a tile, beyond it, and at the border of a block; heads that are no multiple of a
// vector, and one whose size is odd.
const std::vector<Case> kCases = {
    {{4, 2, 64}, {1, 2, 16, 17, 63, 64, 65}, 0},
    {{2, 2, 24}, {130, 255, 256, 257}, 0},
    {{3, 1, 128}, {600}, 0},
    {{4, 2, 10}, {40, 300}, 1},
    {{2, 1, 16}, {97, 400}, 5},
    {{2, 1, 64}, {700, 20}, 256},
    {{2, 2, 32}, {513}, 300},
    {{2, 1, 7}, {70, 3}, 0},
    {with_sinks({4, 2, 16}), {1, 40, 300}, 5},
    {with_sinks({3, 1, 64}), {130, 3}, 0},
};

struct Inputs {
  at::Tensor qkv, gradient;

  Inputs(const Case& one, at::ScalarType dtype) {
    at::manual_seed(7);
    qkv = at::randn({one.num_rows(), one.heads.columns()}).to(dtype);
    gradient = at::randn({one.num_rows(), one.heads.query_columns()}).to(dtype);
  }
};

struct Outputs {
  at::Tensor output, gradient;
  at::Tensor of_sinks = at::zeros({1});  // Their gradient.
};

Outputs outputs_of(const Case& one, const Inputs& inputs) {
  const at::Tensor qkv = inputs.qkv.detach().clone().set_requires_grad(true);
  const at::Tensor output = attention(qkv, one.heads, one.mask());
  output.backward(inputs.gradient);
  Outputs outputs{output.detach(), qkv.grad()};
  if (one.heads.sinks.is_defined()) outputs.of_sinks = one.heads.sinks.gradient().clone();
  return outputs;
}

// softmax(q k^T / sqrt(head_dim)) v in fp64, with all scores at once, and with sinks beside them.
Outputs formula(const Case& one, const Inputs& inputs) {
  const Heads& heads = one.heads;
  const at::Tensor qkv = inputs.qkv.to(at::kDouble).set_requires_grad(true);
  at::Tensor sinks;
  if (heads.sinks.is_defined()) {
    sinks = heads.sinks.value().to(at::kDouble).set_requires_grad(true);
  }
  std::vector<at::Tensor> outputs;
  for (const at::Tensor& rows : qkv.split_with_sizes(one.sizes)) {
    const auto part = [&](int64_t column, int64_t num_heads) {
      return rows.narrow(1, column, num_heads * heads.head_dim)
          .unflatten(1, {num_heads, heads.head_dim})
          .transpose(0, 1)
          .repeat_interleave(heads.num_heads / num_heads, 0);
    };
    const at::Tensor places = at::arange(rows.size(0));
    const at::Tensor distance = places.unsqueeze(1) - places;
    at::Tensor is_seen = distance >= 0;
    if (one.window > 0) is_seen = is_seen.logical_and(distance < one.window);
    const at::Tensor keys = part(heads.first_key_column(), heads.num_key_value_heads);
    const at::Tensor scores = part(0, heads.num_heads).matmul(keys.transpose(1, 2)) /
                              std::sqrt(static_cast<double>(heads.head_dim));
    at::Tensor all =
        scores.masked_fill(is_seen.logical_not(), -std::numeric_limits<double>::infinity());
    if (sinks.defined()) {
      all = at::cat({all, sinks.view({-1, 1, 1}).expand({-1, rows.size(0), 1})}, 2);
    }
    const at::Tensor weights = all.softmax(-1).narrow(2, 0, rows.size(0));
    const at::Tensor values = part(heads.first_value_column(), heads.num_key_value_heads);
    outputs.push_back(weights.matmul(values).transpose(0, 1).flatten(1));
  }
  const at::Tensor output = at::cat(outputs);
  output.backward(inputs.gradient.to(at::kDouble));
  Outputs expected{output.detach(), qkv.grad()};
  if (sinks.defined()) expected.of_sinks = sinks.grad();
  return expected;
}

double distance(const at::Tensor& found, const at::Tensor& expected) {
  const at::Tensor difference = found.to(at::kDouble) - expected;
  return (difference.norm() / expected.norm()).item<double>();
}

// bf16 rounds each number by up to 2^-9 of it, and by a third of that in the mean; here what is
// read is exact, and the results are rounded.
BOOST_DATA_TEST_CASE(attention_is_what_its_formula_says,
                     data::make(kCases) * data::make({at::kFloat, at::kBFloat16}), one, dtype) {
  const Inputs inputs(one, dtype);
  const Outputs found = outputs_of(one, inputs), expected = formula(one, inputs);
  const double bound = dtype == at::kFloat ? 2e-6 : 4e-3;
  BOOST_TEST(distance(found.output, expected.output) < bound);
  BOOST_TEST(distance(found.gradient, expected.gradient) < bound);
  const double most = std::max(1.0, expected.of_sinks.norm().item<double>());
  BOOST_TEST((found.of_sinks - expected.of_sinks).norm().item<double>() < bound * most);
  // Row by row, so that no single query or key is wrong among many.
  const at::Tensor worst = (found.output.to(at::kDouble) - expected.output).abs().max();
  BOOST_TEST(worst.item<double>() < 10 * bound);
}

BOOST_DATA_TEST_CASE(the_bits_are_those_of_one_thread,
                     data::make(kCases) * data::make({at::kFloat, at::kBFloat16}), one, dtype) {
  const Inputs inputs(one, dtype);
  const OneThread restores_their_number;
  const Outputs alone = outputs_of(one, inputs);
  for (const int num_threads : {2, 3, 7, 64}) {
    at::set_num_threads(num_threads);
    const Outputs many = outputs_of(one, inputs);
    BOOST_TEST(at::equal(many.output, alone.output), num_threads << " threads");
    BOOST_TEST(at::equal(many.gradient, alone.gradient), num_threads << " threads");
    BOOST_TEST(at::equal(many.of_sinks, alone.of_sinks), num_threads << " threads");
  }
}

BOOST_DATA_TEST_CASE(a_document_has_the_same_bits_alone,
                     data::make(kCases) * data::make({at::kFloat, at::kBFloat16}), one, dtype) {
  const Inputs inputs(one, dtype);
  const Outputs packed = outputs_of(one, inputs);
  int64_t begin = 0;
  for (const int64_t size : one.sizes) {
    Inputs own = inputs;
    own.qkv = inputs.qkv.narrow(0, begin, size);
    own.gradient = inputs.gradient.narrow(0, begin, size);
    const Outputs alone = outputs_of({one.heads, {size}, one.window}, own);
    BOOST_TEST(at::equal(alone.output, packed.output.narrow(0, begin, size)));
    BOOST_TEST(at::equal(alone.gradient, packed.gradient.narrow(0, begin, size)));
    begin += size;
  }
}

// The last tokens of each document are new, and the others' keys and values cached.
struct CachedCase {
  std::vector<CachedSequence> sequences;
  at::Tensor queries;
  std::vector<int64_t> rows;  // Of all rows, the queries'.

  CachedCase(const Case& one, const at::Tensor& qkv) {
    const auto part = [&](int64_t column, int64_t num_heads) {
      return qkv.narrow(1, column, num_heads * one.heads.head_dim)
          .unflatten(1, {num_heads, one.heads.head_dim});
    };
    const at::Tensor keys = part(one.heads.first_key_column(), one.heads.num_key_value_heads);
    const at::Tensor values = part(one.heads.first_value_column(), one.heads.num_key_value_heads);
    int64_t begin = 0;
    for (const int64_t size : one.sizes) {
      const int64_t first = std::ssize(rows);
      for (int64_t i = std::max<int64_t>(0, size - 3); i < size; ++i) rows.push_back(begin + i);
      sequences.push_back({{first, std::ssize(rows)},
                           keys.narrow(0, begin, size).contiguous(),
                           values.narrow(0, begin, size).contiguous()});
      begin += size;
    }
    queries = part(0, one.heads.num_heads).index_select(0, at::tensor(rows));
  }
};

BOOST_DATA_TEST_CASE(new_tokens_see_what_is_cached,
                     data::make(kCases) * data::make({at::kFloat, at::kBFloat16}), one, dtype) {
  const Inputs inputs(one, dtype);
  const CachedCase cached(one, inputs.qkv);
  const at::Tensor found =
      attention_over_caches(cached.queries, cached.sequences, one.heads, one.window);
  const at::Tensor expected = formula(one, inputs).output.index_select(0, at::tensor(cached.rows));
  const double bound = dtype == at::kFloat ? 2e-6 : 4e-3;
  BOOST_TEST(distance(found, expected) < bound);
  BOOST_TEST((found.to(at::kDouble) - expected).abs().max().item<double>() < 10 * bound);
  for (const CachedSequence& sequence : cached.sequences) {
    const at::Tensor own =
        cached.queries.narrow(0, sequence.queries.begin, sequence.queries.size());
    const at::Tensor alone = attention_over_caches(
        own, {{{0, own.size(0)}, sequence.keys, sequence.values}}, one.heads, one.window);
    BOOST_TEST(at::equal(alone, found.narrow(0, sequence.queries.begin, own.size(0))));
  }
}

// A step with such a number is to be skipped, so none may disappear; nor reach another document.
BOOST_DATA_TEST_CASE(what_is_not_a_number_reaches_those_who_see_it,
                     data::make({at::kFloat, at::kBFloat16}) * data::make({0, 1}), dtype,
                     is_a_key) {
  const Case one{{2, 1, 16}, {300, 20}, 0};
  Inputs inputs(one, dtype);
  // A query that sees itself alone has nothing but its own score to tell.
  const int64_t row = is_a_key == 1 ? 100 : 300;
  const int64_t column = is_a_key == 1 ? one.heads.first_key_column() : 0;
  inputs.qkv[row][column] = std::numeric_limits<float>::quiet_NaN();
  const at::Tensor is_lost =
      outputs_of(one, inputs).output.narrow(1, 0, one.heads.head_dim).isnan().any(1);
  for (const int64_t query : {99, 100, 101, 299, 300}) {
    const bool sees_it = query == row || (is_a_key == 1 && query > row && query < 300);
    BOOST_TEST(is_lost[query].item<bool>() == sees_it, "query " << query);
  }
}

}  // namespace
}  // namespace temper
