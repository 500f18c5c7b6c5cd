// SPDX-License-Identifier: Apache-2.0
#include "train/generation.h"

#include <boost/test/unit_test.hpp>

#include "checkpoint/single_rank.h"
#include "io/says.h"
#include "support/tiny_model.h"

namespace temper {
namespace {

struct GenerationFixture {
  testing::SingleRank alone;
  Decoder decoder{testing::tiny_config(/*has_tied_head=*/true)};
  UnitStore store{decoder.units(), alone, {{}, StorePurpose::kFrozen}};
  Engine engine{decoder, store, Activations::kKept};

  GenerationFixture() { testing::fill_weights(store); }

  std::vector<int64_t> answer(const std::vector<int64_t>& prompt, int64_t max_new_tokens) {
    return generate(engine, prompt, {max_new_tokens, {}}, at::kCPU);
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

BOOST_AUTO_TEST_CASE(the_whole_context_can_be_used) {
  BOOST_TEST(answer({1, 2}, 62).size() <= 62u);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper
