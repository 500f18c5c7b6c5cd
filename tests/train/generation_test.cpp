// SPDX-License-Identifier: Apache-2.0
#include "train/generation.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <set>

#include "checkpoint/single_rank.h"
#include "io/says.h"
#include "support/tiny_model.h"

namespace temper {
namespace {

struct GenerationFixture {
  testing::SingleRank alone;
  Decoder decoder{testing::tiny_config(/*has_tied_head=*/true)};
  UnitStore store{in_form(decoder.units(), {.is_trained = false}), alone, {}};
  Engine engine{decoder, store, Activations::kKept};

  GenerationFixture() { testing::fill_weights(store); }

  using Prompts = std::vector<std::vector<int64_t>>;

  Prompts answers(const Prompts& prompts, const GenerationOptions& options) {
    std::vector<GenerationRequest> requests;
    for (const std::vector<int64_t>& prompt : prompts) {
      require_usable(prompt, options, decoder.config(), 0);
      requests.push_back({prompt, requests.size()});
    }
    Prompts found(prompts.size());
    generate(engine, alone, requests, options,
             [&](size_t request, const Answer& answer) { found[request] = answer.tokens; });
    return found;
  }

  std::vector<int64_t> answer(const std::vector<int64_t>& prompt, int64_t max_new_tokens) {
    return answers({prompt}, {.max_new_tokens = max_new_tokens}).front();
  }

  // The logits after the last of a sequence's next tokens.
  at::Tensor extend(const at::Tensor& tokens, const at::Tensor& positions, KeyValueCaches& caches) {
    const PackedBatch batch{tokens, positions, at::full_like(tokens, -1), {0, tokens.size(0)}};
    KeyValueCaches* own = &caches;
    return engine.extend(batch, {&own, 1}).squeeze(0);
  }
};

BOOST_FIXTURE_TEST_SUITE(generation, GenerationFixture)

BOOST_AUTO_TEST_CASE(what_cannot_be_continued_is_refused) {
  BOOST_CHECK_EXCEPTION(answer({}, 4), ConfigError,
                        says("the prompt has no token\n  try: give at least one token id"));
  BOOST_CHECK_EXCEPTION(
      answer({1, 211}, 4), ConfigError,
      says("prompt token 211 is not in the vocabulary of 211\n  try: encode the"));
  BOOST_CHECK_EXCEPTION(answer({-1}, 4), ConfigError, says("prompt token -1 is not in"));
  BOOST_CHECK_EXCEPTION(answer({1, 2}, 63), ConfigError,
                        says("prompt and answer may take 65 tokens, but the model knows 64 "
                             "positions\n  try: set --max-new-tokens to at most 62, or shorten the "
                             "prompt"));
  BOOST_CHECK_EXCEPTION(answer(std::vector<int64_t>(64, 1), 1), ConfigError,
                        says("\n  try: shorten the prompt by at least 1 tokens"));
  ModelConfig model;
  model.vocab_size = 211;
  model.max_positions = 64;
  BOOST_CHECK_NO_THROW(require_usable({1, 2}, {.max_new_tokens = 8, .sampling = {}}, model, 54));
  BOOST_CHECK_EXCEPTION(require_usable({1, 2}, {.max_new_tokens = 9, .sampling = {}}, model, 54),
                        ConfigError, says("the adapter's 54, prompt and answer may take 65"));
}

BOOST_AUTO_TEST_CASE(logits_that_are_not_finite_are_an_error_and_no_answer) {
  store.state(decoder.num_units() - 1).weights.fill_(std::nan(""));
  BOOST_CHECK_EXCEPTION(
      answer({1, 2}, 4), ModelError,
      says("the logits of answer token 0 are not finite, the first of them that of token 0: wanted "
           "numbers to choose a token by\n  try: look for tensors that are not finite"));
}

// Of one new token the products are so thin that LibTorch's own attention follows the threads.
BOOST_AUTO_TEST_CASE(logits_are_the_same_bits_on_any_number_of_threads) {
  const auto logits = [&](int num_threads) {
    at::set_num_threads(num_threads);
    KeyValueCaches caches(static_cast<size_t>(decoder.config().num_layers));
    const at::Tensor tokens = at::arange(1, 42, at::kLong);
    extend(tokens, tokens - 1, caches);
    const at::Tensor next = at::tensor({7}, at::kLong);
    extend(next, at::tensor({41}, at::kLong), caches);
    at::Tensor last = extend(next, at::tensor({42}, at::kLong), caches);
    at::set_num_threads(1);
    return last;
  };
  const at::Tensor expected = logits(1);
  for (const int num_threads : {2, 3, 5, 64}) {
    BOOST_TEST(at::equal(logits(num_threads), expected), num_threads << " threads");
  }
  KeyValueCaches caches(static_cast<size_t>(decoder.config().num_layers));
  const at::Tensor whole = at::cat({at::arange(1, 42, at::kLong), at::full({2}, 7, at::kLong)});
  const at::Tensor at_once = extend(whole, at::arange(43, at::kLong), caches);
  BOOST_TEST(at::allclose(at_once, expected, 1e-4, 1e-5));
}

// Four kilobytes a token and block of 8 B parameters: not all of them again for each new token.
BOOST_AUTO_TEST_CASE(a_cached_token_is_moved_about_once) {
  KeyValueCache cache;
  constexpr int64_t kTokens = 3000;
  for (int64_t i = 0; i < kTokens; ++i) {
    const at::Tensor next = at::full({1, 2, 4}, static_cast<double>(i));
    cache.append(next, -next);
  }
  BOOST_TEST(cache.num_moved_tokens() < 2 * kTokens);
  const at::Tensor wanted = at::arange(kTokens, at::kFloat).view({-1, 1, 1}).expand({-1, 2, 4});
  BOOST_TEST(at::equal(cache.keys(), wanted));
  BOOST_TEST(at::equal(cache.values(), -wanted));
}

// Of sampled ones, whose tokens follow the last bits of the logits.
BOOST_AUTO_TEST_CASE(answers_do_not_depend_on_those_beside_them) {
  Prompts prompts;
  for (int64_t i = 0; i < 23; ++i) {
    prompts.emplace_back();
    for (int64_t k = 0; k <= 7 * i % 19; ++k) prompts.back().push_back((31 * i + 17 * k) % 211);
  }
  GenerationOptions options{.max_new_tokens = 20,
                            .sampling = {.temperature = 3.0, .repetition_penalty = 1.3, .seed = 5}};
  options.at_once = 1;
  const Prompts alone_each = answers(prompts, options);
  for (const int64_t at_once : {2, 5, 64}) {
    options.at_once = at_once;
    BOOST_TEST(answers(prompts, options) == alone_each, at_once << " at once");
  }
  const std::set<std::vector<int64_t>> different(alone_each.begin(), alone_each.end());
  BOOST_TEST(different.size() == prompts.size());
  const Prompts twice = answers({prompts[4], prompts[4]}, options);
  BOOST_TEST(twice[0] != twice[1]);
}

BOOST_AUTO_TEST_CASE(a_stop_token_ends_an_answer_without_being_part_of_it) {
  const std::vector<int64_t> whole = answer({1, 2}, 20);
  BOOST_REQUIRE(whole.size() > 3u);
  GenerationOptions options{.max_new_tokens = 20};
  options.stop_tokens = {whole[2]};
  const auto first = std::find(whole.begin(), whole.end(), whole[2]);
  BOOST_TEST(answers({{1, 2}}, options).front() == std::vector<int64_t>(whole.begin(), first));
}

BOOST_AUTO_TEST_CASE(the_whole_context_can_be_used) {
  BOOST_TEST(answer({1, 2}, 62).size() <= 62u);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper
