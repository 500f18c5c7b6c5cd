// SPDX-License-Identifier: Apache-2.0
#include "train/generation.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <set>
#include <utility>

#include "checkpoint/single_rank.h"
#include "io/says.h"
#include "support/tiny_model.h"

namespace temper {
namespace {

ModelConfig config_of(int64_t max_positions) {
  ModelConfig config = testing::tiny_config(/*has_tied_head=*/true);
  config.max_positions = max_positions;
  return config;
}

struct GenerationFixture {
  testing::SingleRank alone;
  Decoder decoder;
  UnitStore store{in_form(decoder.units(), {.is_trained = false}), alone, {}};
  Engine engine{decoder, store, Activations::kKept};

  explicit GenerationFixture(int64_t max_positions = 64) : decoder(config_of(max_positions)) {
    testing::fill_weights(store);
  }

  using Prompts = std::vector<std::vector<int64_t>>;

  std::vector<Answer> whole_answers(std::vector<GenerationRequest> requests, int64_t at_once) {
    std::vector<Answer> found(requests.size());
    generate(engine, alone, at_once,
             {.next = all_at_once(std::move(requests)),
              .take = [&](size_t request, const Answer& answer) { found[request] = answer; }});
    return found;
  }

  Prompts answers(const Prompts& prompts, const GenerationOptions& options, int64_t at_once = 16) {
    std::vector<GenerationRequest> requests;
    for (const std::vector<int64_t>& prompt : prompts) {
      requests.push_back({prompt, options, requests.size()});
    }
    Prompts found;
    for (Answer& answer : whole_answers(std::move(requests), at_once)) {
      found.push_back(std::move(answer.tokens));
    }
    return found;
  }

  std::vector<int64_t> answer(const std::vector<int64_t>& prompt, int64_t max_new_tokens) {
    return answers({prompt}, {.max_new_tokens = max_new_tokens}).front();
  }

  // The logits after the last of a sequence's next tokens.
  at::Tensor extend(const at::Tensor& tokens, const at::Tensor& positions, KeyValueCaches& caches) {
    const PackedBatch batch{tokens, positions, at::full_like(tokens, -1), {0, tokens.size(0)}};
    KeyValueCaches* own = &caches;
    const int64_t last = 1;
    return engine.extend(batch, {&own, 1}, {&last, 1}).squeeze(0);
  }

  // The log-probabilities of what follows each of these tokens. Shapes: [tokens, vocab_size] fp64.
  at::Tensor log_probabilities(const std::vector<int64_t>& text) {
    const at::Tensor tokens = at::tensor(text, at::kLong);
    const int64_t size = tokens.size(0);
    KeyValueCaches caches(static_cast<size_t>(decoder.config().num_layers));
    KeyValueCaches* own = &caches;
    const PackedBatch batch{
        tokens, at::arange(size, at::kLong), at::full_like(tokens, -1), {0, size}};
    return engine.extend(batch, {&own, 1}, {&size, 1}).to(at::kDouble).log_softmax(1);
  }

  // Each token after the first of a text as the model sees it.
  void require_scores(const std::vector<int64_t>& text, const std::vector<ScoredToken>& scores) {
    BOOST_TEST_REQUIRE(scores.size() + 1 == text.size());
    const at::Tensor expected = log_probabilities(text);
    for (size_t i = 0; i < scores.size(); ++i) {
      const at::Tensor row = expected[static_cast<int64_t>(i)];
      BOOST_TEST(scores[i].token == text[i + 1]);
      BOOST_TEST(std::abs(scores[i].log_probability - row[text[i + 1]].item<double>()) < 1e-5);
      const auto [values, tokens] = row.topk(2);
      for (int64_t k = 0; k < 2; ++k) {
        const auto& [token, log_probability] = scores[i].likely[static_cast<size_t>(k)];
        BOOST_TEST(token == tokens[k].item<int64_t>());
        BOOST_TEST(std::abs(log_probability - values[k].item<double>()) < 1e-5);
      }
      BOOST_TEST(scores[i].likely[2].token == -1);
    }
  }
};

BOOST_FIXTURE_TEST_SUITE(generation, GenerationFixture)

BOOST_AUTO_TEST_CASE(what_cannot_be_continued_is_told_with_what_to_try) {
  const auto told = [&](const std::vector<int64_t>& prompt, int64_t max_new_tokens,
                        int64_t num_virtual_tokens = 0) {
    const auto found = find_unusable(prompt, max_new_tokens, decoder.config(), num_virtual_tokens);
    return found ? found->problem + "; " + found->remedy : std::string();
  };
  BOOST_TEST(told({}, 4) == "the prompt has no token; give at least one token id");
  BOOST_TEST(told({1, 211}, 4) ==
             "prompt token 211 is not in the vocabulary of 211; encode the prompt with this "
             "model's tokenizer");
  BOOST_TEST(told({-1}, 4).starts_with("prompt token -1 is not in"));
  BOOST_TEST(told({1, 2}, 63) ==
             "prompt and answer may take 65 tokens, but the model knows 64 positions; ask for at "
             "most 62 new tokens, or shorten the prompt");
  BOOST_TEST(
      told(std::vector<int64_t>(64, 1), 1).ends_with("shorten the prompt by at least 1 tokens"));
  BOOST_TEST(told({1, 2}, 8, 54) == "");
  BOOST_TEST(told({1, 2}, 9, 54).starts_with("the adapter's 54, prompt and answer may take 65"));
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
  const Prompts alone_each = answers(prompts, options, 1);
  for (const int64_t at_once : {2, 5, 64}) {
    BOOST_TEST(answers(prompts, options, at_once) == alone_each, at_once << " at once");
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

// Prompts that are scored are read in pieces of 256 tokens, beside answers that go on.
struct LongFixture : GenerationFixture {
  LongFixture() : GenerationFixture(700) {}
};

BOOST_FIXTURE_TEST_CASE(prompts_and_answers_are_scored_as_the_logits_say, LongFixture) {
  std::vector<GenerationRequest> requests;
  for (const int64_t size : {1, 5, 256, 300, 650}) {
    GenerationRequest& request = requests.emplace_back();
    for (int64_t k = 0; k < size; ++k) request.prompt.push_back((size + 17 * k * k) % 211);
    request.options = {.max_new_tokens = 6,
                       .sampling = {.temperature = 2.0, .repetition_penalty = 1.5},
                       .num_likely = 2,
                       .scores_prompt = true};
  }
  const std::vector<Answer> scored = whole_answers(requests, 16);
  for (size_t i = 0; i < requests.size(); ++i) {
    std::vector<int64_t> text = requests[i].prompt;
    text.insert(text.end(), scored[i].tokens.begin(), scored[i].tokens.end());
    std::vector<ScoredToken> scores = scored[i].prompt_scores;
    BOOST_TEST(scores.size() + 1 == requests[i].prompt.size());
    scores.insert(scores.end(), scored[i].scores.begin(), scored[i].scores.end());
    require_scores(text, scores);
    requests[i].options.num_likely.reset();
    requests[i].options.scores_prompt = false;
  }
  const std::vector<Answer> plain = whole_answers(requests, 1);
  for (size_t i = 0; i < requests.size(); ++i) {
    BOOST_TEST(plain[i].tokens == scored[i].tokens);
    BOOST_TEST((plain[i].scores.empty() && plain[i].prompt_scores.empty()));
  }
  requests[4].options = {.max_new_tokens = 0, .num_likely = 2, .scores_prompt = true};
  const Answer only = whole_answers({requests[4]}, 1).front();
  BOOST_TEST(only.tokens.empty());
  require_scores(requests[4].prompt, only.prompt_scores);
}

BOOST_AUTO_TEST_CASE(each_request_has_settings_of_its_own) {
  const std::vector<int64_t> greedy = answer({1, 2}, 5);
  const GenerationOptions sampled{.max_new_tokens = 9, .sampling = {.temperature = 9.0, .seed = 3}};
  const std::vector<Answer> found =
      whole_answers({{{1, 2}, sampled}, {{1, 2}, {.max_new_tokens = 5}}, {{1, 2}, sampled}}, 2);
  BOOST_TEST(found[1].tokens == greedy);
  BOOST_TEST(found[0].tokens.size() == 9u);
  BOOST_TEST(found[0].tokens == found[2].tokens);  // Of one seed and number.
  BOOST_TEST(found[0].tokens != answers({{1, 2}}, {.max_new_tokens = 9}).front());
}

BOOST_AUTO_TEST_CASE(an_answer_that_is_cancelled_ends_where_it_is) {
  const std::vector<int64_t> whole = answer({1, 2}, 20);
  const GenerationOptions options{.max_new_tokens = 20};
  std::vector<std::pair<size_t, Answer>> found;
  std::vector<int64_t> told;
  int64_t num_calls = 0;
  generate(
      engine, alone, /*at_once=*/1,
      {.next =
           [&](bool is_idle) {
             BOOST_TEST_REQUIRE(is_idle == (num_calls == 0 || found.size() == 3));
             GenerationNews news;
             if (num_calls++ == 0) news.requests.assign(3, {{1, 2}, options});
             if (told.size() == 4 && found.empty()) news.cancelled = {0, 2, 7};
             news.is_over = found.size() == 3;
             return news;
           },
       .take = [&](size_t request, const Answer& answer) { found.emplace_back(request, answer); },
       .take_token = [&](size_t, const ScoredToken& token) { told.push_back(token.token); }});
  BOOST_TEST_REQUIRE(found.size() == 3u);
  using End = Answer::End;
  BOOST_TEST(found[0].first == 0u);
  BOOST_TEST(found[0].second.tokens == (std::vector<int64_t>{whole.begin(), whole.begin() + 4}));
  BOOST_TEST((found[0].second.end == End::kCancelled));
  BOOST_TEST((found[1].first == 2 && found[1].second.tokens.empty()));
  BOOST_TEST((found[2].first == 1 && found[2].second.tokens == whole));
  BOOST_TEST((found[2].second.end != End::kCancelled));
}

BOOST_AUTO_TEST_CASE(the_whole_context_can_be_used) {
  BOOST_TEST(answer({1, 2}, 62).size() <= 62u);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper
