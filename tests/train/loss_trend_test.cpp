// SPDX-License-Identifier: Apache-2.0
#include "train/loss_trend.h"

#include <boost/test/unit_test.hpp>
#include <cmath>

#include "train/expert_use.h"

namespace temper {
namespace {

BOOST_AUTO_TEST_SUITE(loss_trend)

BOOST_AUTO_TEST_CASE(no_loss_has_no_trend) { BOOST_TEST(!trend_of({}).has_value()); }

BOOST_AUTO_TEST_CASE(the_first_of_the_lowest_counts) {
  const LossTrend trend = *trend_of({{0, 3.0}, {10, 2.0}, {20, 2.0}, {30, 2.5}});
  BOOST_TEST(trend.first == 3.0);
  BOOST_TEST(trend.last == 2.5);
  BOOST_TEST(trend.lowest == 2.0);
  BOOST_TEST(trend.lowest_step == 10);
  BOOST_TEST(trend.num_since_lowest == 2);
  BOOST_TEST(trend.num_without_gain == 2);
}

// A slow fall counts as a gain once it is enough in all.
BOOST_AUTO_TEST_CASE(a_gain_is_counted_from_the_last_one) {
  HoldOutLosses losses{{0, 3.0}, {1, 2.96}, {2, 2.93}};
  BOOST_TEST(trend_of(losses, 0.1)->num_without_gain == 2);
  BOOST_TEST(trend_of(losses, 0.1)->num_since_lowest == 0);
  losses[3] = 2.89;
  BOOST_TEST(trend_of(losses, 0.1)->num_without_gain == 0);
}

BOOST_AUTO_TEST_CASE(what_was_no_number_is_no_gain) {
  const LossTrend trend = *trend_of({{0, 3.0}, {1, INFINITY}, {2, INFINITY}});
  BOOST_TEST(trend.num_without_gain == 2);
  BOOST_TEST(trend.lowest == 3.0);
}

// Few choices leave an expert idle by chance, and half of them idle is no collapse.
BOOST_AUTO_TEST_CASE(routers_that_collapse_are_told_of_once) {
  ExpertWatch watch;
  BOOST_TEST(watch.add(1, {}).empty());
  BOOST_TEST(
      watch.add(1, {.shares = {1.0, 0.0}, .idle_share = 0.9, .choices_per_expert = 15.0}).empty());
  const ExpertUse half{.shares = {1.0, 0.0}, .idle_share = 0.5, .choices_per_expert = 64.0};
  BOOST_TEST(watch.add(2, half).empty());
  ExpertUse most = half;
  most.idle_share = 0.75;
  BOOST_TEST(watch.add(3, most) ==
             "at step 3 no token has chosen 75% of the experts, though each could have had 64 of "
             "them: the routers collapse; lower the rate, freeze the routers (train.freeze), or "
             "set output_router_logits in the model's config.json, which adds the loss for an "
             "even choice");
  BOOST_TEST(watch.add(4, most).empty());
}

BOOST_AUTO_TEST_CASE(a_rise_is_told_once_and_with_advice) {
  const auto words = [](const HoldOutLosses& losses, bool is_general) {
    return words_on_rise("h", *trend_of(losses), losses.rbegin()->first, is_general);
  };
  HoldOutLosses losses{{0, 3.0}, {1, 2.0}, {2, 2.5}};
  BOOST_TEST(words(losses, false).empty());
  losses[3] = 2.25;
  BOOST_TEST(words(losses, false) ==
             "the loss on the hold-out h rises: 2.25 at step 3, its lowest was 2 at step 1; "
             "early_stop ends a run there, checkpoint.keep_best keeps that step");
  BOOST_TEST(words(losses, true)
                 .ends_with("; general text among data.train, or a lower rate, holds against it"));
  losses[4] = 2.75;
  BOOST_TEST(words(losses, false).empty());
  BOOST_TEST(words({{1, 2.0}, {2, 2.0}, {3, 2.01}}, false).empty());
  HoldOutLosses slowly{{1, 2.0}, {2, 2.005}, {3, 2.015}};
  BOOST_TEST(words(slowly, false).empty());
  slowly[4] = 2.03;
  BOOST_TEST(words(slowly, false).starts_with("the loss on the hold-out h rises: 2.03 at step 4"));
  slowly[5] = 2.05;
  BOOST_TEST(words(slowly, false).empty());
}

// Losses of one size fall to a half, with one that is no number, and come back.
BOOST_AUTO_TEST_CASE(a_training_loss_that_rises_is_told_of_once) {
  LossWatch watch;
  int64_t step = 0, num_told = 0;
  std::string told;
  const auto add = [&](double loss, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      const std::string words = watch.add(++step, loss);
      if (words.empty()) continue;
      told = words;
      ++num_told;
    }
  };
  add(4.0, 30);
  add(NAN, 1);
  add(2.0, 30);
  add(2.3, 30);  // No more than a fifth above.
  BOOST_TEST(num_told == 0);
  add(4.0, 40);
  BOOST_TEST(num_told == 1);
  BOOST_TEST(
      told.starts_with("the training loss rises: 2.47 over the 20 steps to 93, above 1.2 "
                       "times the 2 of those to step 51; lower optimizer.learning_rate"));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper
