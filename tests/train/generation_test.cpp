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
  BOOST_CHECK_EXCEPTION(answer({}, 4), DataError,
                        says("the prompt has no token\n  try: give at least one token id"));
  BOOST_CHECK_EXCEPTION(
      answer({1, 211}, 4), DataError,
      says("prompt token 211 is not in the vocabulary of 211\n  try: encode the"));
  BOOST_CHECK_EXCEPTION(answer({-1}, 4), DataError, says("prompt token -1 is not in"));
  BOOST_CHECK_EXCEPTION(answer({1, 2}, 63), DataError,
                        says("prompt and answer may take 65 tokens, but the model knows 64 "
                             "positions\n  try: shorten the prompt or lower max_new_tokens"));
}

BOOST_AUTO_TEST_CASE(the_whole_context_can_be_used) {
  BOOST_TEST(answer({1, 2}, 62).size() <= 62u);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper
