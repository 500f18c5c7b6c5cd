// SPDX-License-Identifier: Apache-2.0
// The scores of a continuation depend on it and its context alone.
#include <ATen/ATen.h>

#include <algorithm>
#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <map>
#include <numeric>
#include <string_view>
#include <utility>

#include "core/random.h"
#include "core/targets.h"
#include "train/generation.h"
#include "train/invariant_run.h"
#include "train/scoring.h"

namespace temper {
namespace {

namespace data = boost::unit_test::data;
using Kind = MethodOptions::Kind;
using testing::RanksFixture;

Tokens random_tokens(uint64_t key, int64_t count) {
  Tokens tokens;
  for (int64_t i = 0; i < count; ++i) {
    tokens.push_back(static_cast<int64_t>(random_word(key, static_cast<uint64_t>(i)) % 211));
  }
  return tokens;
}

Kind kind_of(std::string_view name) {
  for (const Kind kind : {Kind::kLora, Kind::kPrefix, Kind::kPrompt, Kind::kBottleneck}) {
    if (name_of(kind) == name) return kind;
  }
  return Kind::kFull;
}

// Contexts of none, one and many tokens, each with several continuations that come up in turn.
ScoringWork make_work() {
  ScoringWork work;
  for (const int64_t size : {0, 1, 2, 17, 40}) {
    work.contexts.push_back(random_tokens(work.contexts.size(), size));
  }
  for (uint64_t round = 0; round < 4; ++round) {
    for (size_t context = 0; context < work.contexts.size(); ++context) {
      const uint64_t key = 100 + 10 * round + context;
      work.continuations.push_back(
          {context, random_tokens(key, 2 + static_cast<int64_t>(key % 9))});
    }
  }
  return work;
}

std::vector<size_t> all_of_them(const ScoringWork& work) {
  std::vector<size_t> all(work.continuations.size());
  std::iota(all.begin(), all.end(), size_t{0});
  return all;
}

using Scores = std::map<size_t, std::vector<std::pair<float, int32_t>>>;  // By continuation.

// A model of one method, sharded as at stage 3.
struct Scorer {
  Communicator& ranks;
  Decoder decoder{testing::tiny_config(/*has_tied_head=*/true)};
  std::optional<Adapter> adapter;
  std::optional<UnitStore> store;
  std::optional<Engine> engine;

  Scorer(Communicator& group, Kind kind, at::ScalarType dtype) : ranks(group) {
    MethodOptions method;
    method.kind = kind;
    method.prefix.num_tokens = method.prompt.num_tokens = 5;
    adapter = make_adapter(method, decoder.config());
    store.emplace(
        stored_units(decoder.units(), layouts_of(adapter), {.dtype = dtype, .is_trained = false}),
        ranks, StoreOptions{.zero = {.stage = 3}});
    testing::fill_weights(*store);
    engine.emplace(decoder, *store, Activations::kKept, adapter ? &*adapter : nullptr);
  }

  Scores run(const ScoringWork& work, const std::vector<ScoringBatch>& plan) {
    Scores scores;
    score(*engine, work, plan, ranks, [&](size_t continuation, std::span<const TokenScore> tokens) {
      BOOST_TEST(ranks.rank() == 0);
      BOOST_TEST(!scores.contains(continuation));
      for (const TokenScore& one : tokens) {
        scores[continuation].emplace_back(one.log_probability, one.is_greedy);
      }
    });
    return scores;
  }
};

// Each in a batch of its own.
Scores score_one_by_one(Communicator& self, const ScoringWork& work, Kind kind,
                        at::ScalarType dtype) {
  std::vector<ScoringBatch> plan;
  for (const size_t one : all_of_them(work)) {
    plan.push_back({{work.continuations[one].context, {one}}});
  }
  return Scorer(self, kind, dtype).run(work, plan);
}

BOOST_FIXTURE_TEST_SUITE(scoring, RanksFixture)

BOOST_DATA_TEST_CASE_F(RanksFixture, ranks_batches_and_neighbours_change_no_bit,
                       data::make({"full", "lora", "prefix", "prompt", "bottleneck"}) *
                           data::make({at::kFloat, at::kBFloat16}),
                       name, dtype) {
  const Kind kind = kind_of(name);
  const ScoringWork work = make_work();
  const Scores expected = score_one_by_one(self, work, kind, dtype);
  BOOST_TEST(expected.size() == work.continuations.size());
  std::vector<size_t> wanted = all_of_them(work);
  for (const int64_t num_rows : {1, 50, 2048}) {
    Scorer scorer(world, kind, dtype);
    const Scores found = scorer.run(work, plan_scoring(work, wanted, num_rows));
    if (world.rank() == 0) BOOST_TEST((found == expected), "batches of " << num_rows);
    std::ranges::reverse(wanted);
  }
}

// Generation goes another way, one token after the other.
BOOST_AUTO_TEST_CASE(scores_are_those_of_the_logits_of_generation) {
  const ScoringWork work = make_work();
  const Scores scores = score_one_by_one(self, work, Kind::kFull, at::kFloat);
  Scorer scorer(self, Kind::kFull, at::kFloat);
  for (const auto& [continuation, tokens] : scores) {
    Tokens text = work.context_of(continuation);
    const Tokens& own = work.continuations[continuation].tokens;
    const size_t first = own.size() - tokens.size();
    text.insert(text.end(), own.begin(), own.begin() + static_cast<int64_t>(first));
    for (size_t i = 0; i < tokens.size(); ++i) {
      KeyValueCaches caches(static_cast<size_t>(scorer.decoder.config().num_layers));
      KeyValueCaches* own_caches = &caches;
      const PackedBatch batch{at::tensor(text, at::kLong),
                              at::arange(std::ssize(text), at::kLong),
                              at::full({std::ssize(text)}, kNoTarget, at::kLong),
                              {0, std::ssize(text)},
                              {}};
      const int64_t last = 1;
      const at::Tensor logits =
          scorer.engine->extend(batch, {&own_caches, 1}, {&last, 1}).squeeze(0);
      const int64_t token = own[first + i];
      const double wanted = logits.to(at::kDouble).log_softmax(0)[token].item<double>();
      BOOST_TEST(std::abs(static_cast<double>(tokens[i].first) - wanted) < 1e-5);
      BOOST_TEST((tokens[i].second == 1) == (logits.argmax().item<int64_t>() == token));
      text.push_back(token);
    }
  }
}

BOOST_AUTO_TEST_CASE(what_generation_answers_is_greedy_and_nothing_else_is) {
  Scorer scorer(self, Kind::kFull, at::kFloat);
  ScoringWork work{{random_tokens(1, 9)}, {}};
  Tokens answer;
  generate(*scorer.engine, self, /*at_once=*/1,
           {.next = all_at_once({{work.contexts[0], {.max_new_tokens = 4}}}),
            .take = [&](size_t, const Answer& found) { answer = found.tokens; }});
  BOOST_TEST_REQUIRE(answer.size() == 4u);
  Tokens other = answer;
  other[2] = (other[2] + 1) % 211;
  work.continuations = {{0, answer}, {0, other}};
  const Scores scores = scorer.run(work, plan_scoring(work, all_of_them(work), 2048));
  const auto greedy = [&](size_t continuation) {
    std::vector<int32_t> flags;
    for (const auto& [ignored, flag] : scores.at(continuation)) flags.push_back(flag);
    return flags;
  };
  BOOST_TEST(greedy(0) == (std::vector<int32_t>{1, 1, 1, 1}), boost::test_tools::per_element());
  BOOST_TEST(greedy(1)[2] == 0);
}

BOOST_AUTO_TEST_CASE(a_context_is_computed_once_for_what_fits_into_a_batch) {
  const ScoringWork work = make_work();
  const std::vector<ScoringBatch> one = plan_scoring(work, all_of_them(work), 2048);
  BOOST_TEST_REQUIRE(one.size() == 1u);
  BOOST_TEST_REQUIRE(one[0].size() == 5u);
  for (size_t context = 0; context < 5; ++context) {
    BOOST_TEST(one[0][context].context == context);
    const std::vector<size_t> expected{context, 5 + context, 10 + context, 15 + context};
    BOOST_TEST(one[0][context].continuations == expected, boost::test_tools::per_element());
  }
  for (const ScoringBatch& batch : plan_scoring(work, all_of_them(work), 50)) {
    int64_t rows = 0;
    for (const ScoringGroup& group : batch) {
      rows += std::max<int64_t>(0, std::ssize(work.contexts[group.context]) - 1);
      for (const size_t one_of : group.continuations) rows += work.num_scores(one_of);
    }
    const bool is_single = batch.size() == 1 && batch[0].continuations.size() == 1;
    BOOST_TEST((rows <= 50 || is_single), rows << " rows");
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper
