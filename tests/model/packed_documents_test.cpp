// SPDX-License-Identifier: Apache-2.0
// Which tokens may reach which: packed documents and sliding windows, seen from outside.
#include <ATen/ATen.h>

#include <array>
#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <string_view>

#include "core/targets.h"
#include "model/whole_decoder.h"

namespace temper::testing {
namespace {

namespace data = boost::unit_test::data;

ModelConfig config_of(int64_t num_layers, int64_t window) {
  ModelConfig config;
  config.model_type = "llama";
  config.vocab_size = 61;
  config.hidden_size = 32;
  config.intermediate_size = 48;
  config.num_layers = num_layers;
  config.num_heads = 4;
  config.num_key_value_heads = 2;
  config.head_dim = 8;
  config.max_positions = 64;
  config.has_tied_head = false;  // The gradient of the embedding is that of the tokens read alone.
  config.windows.assign(static_cast<size_t>(num_layers), window);
  return config;
}

// Only document `document` keeps its targets.
PackedBatch with_targets_of(const PackedBatch& batch, size_t document) {
  PackedBatch only = batch;
  only.targets = at::full_like(batch.targets, kNoTarget);
  const int64_t begin = batch.document_begins[document];
  const int64_t size = batch.document_begins[document + 1] - begin;
  only.targets.narrow(0, begin, size).copy_(batch.targets.narrow(0, begin, size));
  return only;
}

// Other tokens, and with them other targets, in document `document`.
PackedBatch with_other_tokens_in(const PackedBatch& batch, size_t document) {
  PackedBatch other = batch;
  other.tokens = batch.tokens.clone();
  const int64_t begin = batch.document_begins[document];
  const int64_t size = batch.document_begins[document + 1] - begin;
  const at::Tensor part = other.tokens.narrow(0, begin, size);
  part.copy_(part.add(7).remainder(61));
  return other;
}

BOOST_DATA_TEST_CASE(another_document_in_the_row_changes_no_bit_of_loss_and_gradient,
                     data::make({at::kFloat, at::kBFloat16}) * data::make({0, 5}), dtype, window) {
  const ModelConfig config = config_of(2, window);
  WholeDecoder whole(config, dtype);
  whole.fill_weights();
  const PackedBatch batch = make_batch(config, {9, 14, 6});
  for (size_t document = 0; document < 3; ++document) {
    const PackedBatch own = with_targets_of(batch, document);
    const double loss = whole.forward_backward(own).loss_sum;
    const std::vector<std::string> names = whole.names();
    std::vector<at::Tensor> gradients;
    for (const std::string& name : names) gradients.push_back(whole.gradient(name).clone());
    for (size_t neighbour = 0; neighbour < 3; ++neighbour) {
      const double found = whole.forward_backward(with_other_tokens_in(own, neighbour)).loss_sum;
      BOOST_TEST((found == loss) == (neighbour != document));
      if (neighbour == document) continue;
      for (size_t k = 0; k < gradients.size(); ++k) {
        BOOST_TEST(at::equal(whole.gradient(names[k]), gradients[k]), names[k] << " changed");
      }
    }
  }
}

// Of the shortest, of full and broken tiles of 16 and 64 rows, and of more than one block of 256
// keys.
constexpr std::array<int64_t, 12> kLengths{1, 2, 15, 16, 17, 63, 64, 65, 130, 257, 300, 3};

std::vector<int64_t> all_lengths() { return {kLengths.begin(), kLengths.end()}; }

BOOST_DATA_TEST_CASE(a_row_has_the_same_bits_alone_and_in_any_batch,
                     data::make({at::kFloat, at::kBFloat16}) * data::make({0, 5}), dtype, window) {
  const ModelConfig config = config_of(2, window);
  WholeDecoder whole(config, dtype);
  whole.fill_weights();
  const PackedBatch packed = make_batch(config, all_lengths());
  const at::Tensor hidden = whole.forward(packed).hidden;
  const TargetScores scores = whole.decoder().head_scores(hidden, packed.targets);
  int64_t first_score = 0;
  for (size_t document = 0; document < kLengths.size(); ++document) {
    const int64_t begin = packed.document_begins[document], size = kLengths[document];
    const auto part = [&](const at::Tensor& all) { return all.narrow(0, begin, size); };
    const PackedBatch alone{
        part(packed.tokens), part(packed.positions), part(packed.targets), {0, size}};
    const at::Tensor own = whole.forward(alone).hidden;
    BOOST_TEST(at::equal(own, part(hidden)), "document of " << size);
    const TargetScores own_scores = whole.decoder().head_scores(own, alone.targets);
    const int64_t count = own_scores.are_greedy.numel();
    BOOST_TEST(at::equal(own_scores.log_probabilities,
                         scores.log_probabilities.narrow(0, first_score, count)));
    BOOST_TEST(at::equal(own_scores.are_greedy, scores.are_greedy.narrow(0, first_score, count)));
    first_score += count;
  }
}

// Two documents fork: after trunks of 70 and of no tokens. A document that does not is between.
BOOST_DATA_TEST_CASE(a_branch_has_the_bits_of_trunk_and_branch_alone,
                     data::make({at::kFloat, at::kBFloat16}) * data::make({0, 5}), dtype, window) {
  const ModelConfig config = config_of(2, window);
  WholeDecoder whole(config, dtype);
  whole.fill_weights();
  PackedBatch batch = make_batch(config, {70 + 3 + 1 + 20, 9, 4 + 6});
  const std::vector<std::vector<int64_t>> branches{{70, 73, 74}, {94}, {103, 107}};
  const std::vector<int64_t> trunks{70, 0, 0};
  for (const int64_t begin : {73, 74, 107}) {  // They go on from the trunk.
    const int64_t trunk = begin < 94 ? 70 : 0, end = begin == 73 ? 74 : begin == 74 ? 94 : 113;
    batch.positions.narrow(0, begin, end - begin).copy_(at::arange(trunk, trunk + end - begin));
  }
  batch.branches.emplace(batch.document_begins, branches);
  const at::Tensor hidden = whole.forward(batch).hidden;
  for (size_t document = 0; document < branches.size(); ++document) {
    for (size_t k = 0; k < branches[document].size(); ++k) {
      const int64_t begin = branches[document][k], trunk = trunks[document];
      const bool is_last = k + 1 == branches[document].size();
      const int64_t end = is_last ? batch.document_begins[document + 1] : branches[document][k + 1];
      const auto joined = [&](const at::Tensor& all) {
        return at::cat({all.narrow(0, batch.document_begins[document], trunk),
                        all.narrow(0, begin, end - begin)});
      };
      const PackedBatch alone{joined(batch.tokens),
                              joined(batch.positions),
                              joined(batch.targets),
                              {0, trunk + end - begin}};
      BOOST_TEST(at::equal(whole.forward(alone).hidden, joined(hidden)),
                 "document " << document << ", branch " << k);
    }
  }
}

// Row: the token that reads; column: the token that is read. Written by hand from the definition:
// a window of 4 is the token itself and three before it.
constexpr std::array<std::string_view, 8> kWindowOfFour{
    "x.......",  //
    "xx......",  //
    "xxx.....",  //
    "xxxx....",  //
    ".xxxx...",  //
    "..xxxx..",  //
    "...xxxx.",  //
    "....xxxx",
};

BOOST_AUTO_TEST_CASE(a_window_of_four_is_the_token_and_three_before_it) {
  const ModelConfig config = config_of(1, 4);
  WholeDecoder whole(config, at::kFloat);
  whole.fill_weights();
  const PackedBatch batch = make_batch(config, {8});
  const at::Tensor before = whole.forward(batch).hidden;
  for (int64_t read = 0; read < 8; ++read) {
    PackedBatch other = batch;
    other.tokens = batch.tokens.clone();
    other.tokens[read] = (batch.tokens[read].item<int64_t>() + 7) % config.vocab_size;
    const at::Tensor after = whole.forward(other).hidden;
    for (int64_t reader = 0; reader < 8; ++reader) {
      const bool is_read = !at::equal(after[reader], before[reader]);
      const auto row = static_cast<size_t>(reader);
      BOOST_TEST(is_read == (kWindowOfFour[row][static_cast<size_t>(read)] == 'x'),
                 "token " << reader << " reading token " << read);
    }
  }
}

BOOST_AUTO_TEST_CASE(a_batch_without_targets_has_neither_loss_nor_gradient) {
  const ModelConfig config = config_of(2, 0);
  WholeDecoder whole(config, at::kFloat);
  whole.fill_weights();
  PackedBatch batch = make_batch(config, {9, 14});
  batch.targets.fill_(kNoTarget);
  BOOST_TEST(whole.forward_backward(batch).loss_sum == 0.0);
  for (const std::string& name : whole.names()) {
    BOOST_TEST(whole.gradient(name).count_nonzero().item<int64_t>() == 0, name);
  }
}

}  // namespace
}  // namespace temper::testing
