// SPDX-License-Identifier: Apache-2.0
#include "train/sampler.h"

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <vector>

namespace temper {
namespace {

// Probabilities 0.5, 0.3, 0.15, 0.05, not in order.
const std::vector<float> kLogits{std::log(0.15F), std::log(0.5F), std::log(0.05F), std::log(0.3F)};

std::vector<double> shares(const SamplingOptions& options) {
  constexpr int kDraws = 20000;
  std::vector<double> counts(kLogits.size(), 0.0);
  for (uint64_t draw = 0; draw < kDraws; ++draw) {
    counts[static_cast<size_t>(sample_token(kLogits, options, draw))] += 1.0 / kDraws;
  }
  return counts;
}

void check_shares(const SamplingOptions& options, const std::vector<double>& expected) {
  const std::vector<double> found = shares(options);
  for (size_t token = 0; token < expected.size(); ++token) {
    // 20,000 draws: three standard deviations are below 0.011.
    BOOST_TEST(std::abs(found[token] - expected[token]) < 0.011, "token " << token);
  }
}

BOOST_AUTO_TEST_CASE(greedy_takes_the_most_probable_and_the_first_of_equals) {
  BOOST_TEST(sample_token(kLogits, {}, 0) == 1);
  const std::vector<float> equals{1.0F, 2.0F, 2.0F};
  BOOST_TEST(sample_token(equals, {}, 0) == 1);
}

BOOST_AUTO_TEST_CASE(temperature_one_draws_from_the_softmax) {
  check_shares({.temperature = 1.0}, {0.15, 0.5, 0.05, 0.3});
}

BOOST_AUTO_TEST_CASE(a_lower_temperature_sharpens) {
  // Squares of the probabilities, over their sum 0.365.
  check_shares({.temperature = 0.5}, {0.0225 / 0.365, 0.25 / 0.365, 0.0025 / 0.365, 0.09 / 0.365});
}

BOOST_AUTO_TEST_CASE(top_k_and_top_p_cut_the_tail) {
  check_shares({.temperature = 1.0, .top_k = 2}, {0.0, 0.625, 0.0, 0.375});
  check_shares({.temperature = 1.0, .top_p = 0.9}, {0.15 / 0.95, 0.5 / 0.95, 0.0, 0.3 / 0.95});
  check_shares({.temperature = 1.0, .top_p = 0.1}, {0.0, 1.0, 0.0, 0.0});
}

BOOST_AUTO_TEST_CASE(min_p_cuts_what_is_far_below_the_most_probable) {
  check_shares({.temperature = 1.0, .min_p = 0.35}, {0.0, 0.625, 0.0, 0.375});
  check_shares({.temperature = 1.0, .min_p = 1.0}, {0.0, 1.0, 0.0, 0.0});
  check_shares({.temperature = 1.0, .top_p = 0.9, .min_p = 0.35}, {0.0, 0.625, 0.0, 0.375});
}

BOOST_AUTO_TEST_CASE(a_penalty_makes_each_token_that_was_seen_less_probable_once) {
  std::vector<float> logits{2.0F, -2.0F, 3.0F, 0.0F};
  penalise(logits, std::vector<int64_t>{0, 1, 0}, std::vector<int64_t>{1, 3}, 2.0);
  BOOST_TEST(logits == (std::vector<float>{1.0F, -4.0F, 3.0F, 0.0F}));
}

// Tokens are sorted piece by piece: the hundredth is drawn as often as its share says.
BOOST_AUTO_TEST_CASE(the_tail_of_many_tokens_is_drawn_too) {
  const std::vector<float> equals(1000, 0.5F);
  std::vector<int> counts(equals.size());
  for (uint64_t draw = 0; draw < 20000; ++draw) {
    ++counts[static_cast<size_t>(sample_token(equals, {.temperature = 1.0}, draw))];
  }
  const auto [least, most] = std::ranges::minmax(counts);
  BOOST_TEST(least > 0);
  BOOST_TEST(most < 45);  // Of 20 on average; the standard deviation is 4.5.
}

BOOST_AUTO_TEST_CASE(a_draw_depends_on_seed_and_number_alone) {
  const SamplingOptions options{.temperature = 1.0, .seed = 3};
  for (uint64_t draw = 0; draw < 20; ++draw) {
    BOOST_TEST(sample_token(kLogits, options, draw) == sample_token(kLogits, options, draw));
  }
  SamplingOptions other = options;
  other.seed = 4;
  int num_different = 0;
  for (uint64_t draw = 0; draw < 100; ++draw) {
    if (sample_token(kLogits, options, draw) != sample_token(kLogits, other, draw)) ++num_different;
  }
  BOOST_TEST(num_different > 20);
}

}  // namespace
}  // namespace temper
