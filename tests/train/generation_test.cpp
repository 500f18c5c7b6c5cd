// SPDX-License-Identifier: Apache-2.0
#include "train/generation.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <boost/test/unit_test.hpp>
#include <cmath>

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

  std::vector<int64_t> answer(const std::vector<int64_t>& prompt, int64_t max_new_tokens) {
    const GenerationOptions options{max_new_tokens, {}};
    require_usable(prompt, options, decoder.config(), 0);
    return generate(engine, prompt, options, at::kCPU);
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
      says("the logits of answer token 0 are not finite: that of token 0 is nan, wanted numbers to "
           "choose a token by\n  try: look for tensors that are not finite"));
}

// Of one new token the products are so thin that LibTorch's own attention follows the threads.
BOOST_AUTO_TEST_CASE(logits_are_the_same_bits_on_any_number_of_threads) {
  const auto logits = [&](int num_threads) {
    at::set_num_threads(num_threads);
    std::vector<KeyValueCache> caches(static_cast<size_t>(decoder.config().num_layers));
    const at::Tensor tokens = at::arange(1, 42, at::kLong);
    engine.extend(tokens, tokens - 1, caches);
    const at::Tensor next = at::tensor({7}, at::kLong);
    engine.extend(next, at::tensor({41}, at::kLong), caches);
    at::Tensor last = engine.extend(next, at::tensor({42}, at::kLong), caches);
    at::set_num_threads(1);
    return last;
  };
  const at::Tensor expected = logits(1);
  for (const int num_threads : {2, 3, 5, 64}) {
    BOOST_TEST(at::equal(logits(num_threads), expected), num_threads << " threads");
  }
  std::vector<KeyValueCache> caches(static_cast<size_t>(decoder.config().num_layers));
  const at::Tensor whole = at::cat({at::arange(1, 42, at::kLong), at::full({2}, 7, at::kLong)});
  const at::Tensor at_once = engine.extend(whole, at::arange(43, at::kLong), caches);
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

BOOST_AUTO_TEST_CASE(the_whole_context_can_be_used) {
  BOOST_TEST(answer({1, 2}, 62).size() <= 62u);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper
