// SPDX-License-Identifier: Apache-2.0
#include "train/rate_sweep.h"

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <tuple>

namespace temper {
namespace {

BOOST_AUTO_TEST_SUITE(rate_sweep)

// The loss of a quadratic whose steps are the better the nearer the rate is to 0.1.
double valley(double rate) { return 2.0 + 0.5 * std::pow(std::log10(rate) + 1.0, 2.0); }

BOOST_AUTO_TEST_CASE(rates_rise_by_equal_factors) {
  RateSweep sweep(1e-4, 1.0, 5);
  for (const double rate : {1e-4, 1e-3, 1e-2, 1e-1, 1.0}) {
    BOOST_TEST(sweep.next_rate() == rate, boost::test_tools::tolerance(1e-12));
    BOOST_TEST(sweep.add(3.0) == (rate < 0.5));
  }
  BOOST_TEST(!sweep.proposal().has_value());
  BOOST_TEST(sweep.verdict().starts_with("no proposal: the loss fell by less than a hundredth"));
  for (const auto& [low, high, steps] : {std::tuple{0.0, 1.0, 5}, {1.0, 1.0, 5}, {0.1, 1.0, 1}}) {
    BOOST_CHECK_THROW(RateSweep(low, high, steps), std::invalid_argument);
  }
}

// Smoothing comes after the loss, by less than a factor of three in the rate.
BOOST_AUTO_TEST_CASE(the_proposal_is_a_tenth_of_the_rate_with_the_lowest_loss) {
  RateSweep sweep(1e-4, 1e3, 71);
  int64_t num_steps = 1;
  while (sweep.add(valley(sweep.next_rate()))) ++num_steps;
  BOOST_TEST(num_steps < 71);  // It ends when the loss is lost.
  BOOST_TEST(*sweep.proposal() > 0.01);
  BOOST_TEST(*sweep.proposal() < 0.03);
  BOOST_TEST(sweep.verdict().starts_with("proposal: optimizer.learning_rate=0.0"));
  BOOST_TEST(sweep.svg().find("proposal 0.0") != std::string::npos);
  const std::string drawing = sweep.drawing();
  BOOST_TEST(std::count(drawing.begin(), drawing.end(), '\n') == num_steps);
}

BOOST_AUTO_TEST_CASE(a_range_that_is_too_low_is_told_of) {
  RateSweep sweep(1e-4, 1e-2, 21);
  while (sweep.add(valley(sweep.next_rate()))) continue;
  BOOST_TEST(sweep.verdict().starts_with("no proposal: the loss was lowest at the highest rate"));
  RateSweep broken(1e-4, 1.0, 5);
  BOOST_TEST(!broken.add(std::numeric_limits<double>::quiet_NaN()));
  BOOST_TEST(broken.verdict().starts_with("the first loss is no number"));
  BOOST_TEST(broken.svg().empty());
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper
