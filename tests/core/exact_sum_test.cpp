// SPDX-License-Identifier: Apache-2.0
#include "core/exact_sum.h"

#include <algorithm>
#include <bit>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace temper {
namespace {

__extension__ using Quad = __float128;  // 113 bits: exact where magnitudes are not far apart.

double sum_of(std::span<const double> numbers) {
  ExactSum sum;
  for (const double number : numbers) sum.add(number);
  return sum.value();
}

double sum_of(std::initializer_list<double> numbers) {
  return sum_of(std::span(numbers.begin(), numbers.size()));
}

// Random signs and mantissas, exponents in a range.
std::vector<double> random_numbers(size_t count, int lowest, int highest, unsigned seed) {
  std::mt19937_64 random(seed);
  std::uniform_int_distribution<int> exponent(lowest, highest);
  std::uniform_real_distribution<double> fraction(-1.0, 1.0);
  std::vector<double> numbers(count);
  for (double& number : numbers) number = std::ldexp(fraction(random), exponent(random));
  return numbers;
}

BOOST_AUTO_TEST_SUITE(exact_sum)

BOOST_AUTO_TEST_CASE(the_sum_is_rounded_once_to_the_nearest) {
  for (unsigned seed = 0; seed < 2000; ++seed) {
    const auto numbers = random_numbers(1 + seed % 50, -20, 20, seed);
    Quad exact = 0;
    for (const double number : numbers) exact += number;
    BOOST_REQUIRE_EQUAL(sum_of(numbers), static_cast<double>(exact));
  }
}

BOOST_AUTO_TEST_CASE(ties_go_to_even_unless_anything_lies_below) {
  const double ulp = 0x1p-52;
  const double tiny = std::numeric_limits<double>::denorm_min();
  BOOST_TEST(sum_of({1.0, ulp / 2}) == 1.0);
  BOOST_TEST(sum_of({1.0 + ulp, ulp / 2}) == 1.0 + 2 * ulp);
  BOOST_TEST(sum_of({1.0, ulp / 2, tiny}) == 1.0 + ulp);
  BOOST_TEST(sum_of({1.0 + ulp, ulp / 2, -tiny}) == 1.0 + ulp);
  BOOST_TEST(sum_of({-1.0, -ulp / 2, -tiny}) == -1.0 - ulp);
}

BOOST_AUTO_TEST_CASE(what_cancels_leaves_no_trace) {
  BOOST_TEST(sum_of({1e300, 1e-300, -1e300}) == 1e-300);
  BOOST_TEST(sum_of({-1e300, 5e-324, 1e300}) == 5e-324);
  BOOST_TEST(sum_of({1.5, -1.5}) == 0.0);
  BOOST_TEST(std::signbit(sum_of({1.5, -1.5})) == false);
  BOOST_TEST(sum_of({}) == 0.0);
}

BOOST_AUTO_TEST_CASE(one_number_of_any_magnitude_comes_back) {
  using Limits = std::numeric_limits<double>;
  for (const double number : {Limits::denorm_min(), 3 * Limits::denorm_min(), Limits::min(),
                              std::nextafter(Limits::min(), 0.0), 1.0, Limits::max()}) {
    BOOST_TEST(sum_of({number}) == number);
    BOOST_TEST(sum_of({-number}) == -number);
  }
  for (const double number : random_numbers(5000, -1080, 1024, 1)) {
    BOOST_REQUIRE_EQUAL(sum_of({number}), number);
  }
}

BOOST_AUTO_TEST_CASE(order_and_split_do_not_matter) {
  std::mt19937_64 random(7);
  auto numbers = random_numbers(3000, -1074, 1000, 3);
  const double wanted = sum_of(numbers);
  for (int trial = 0; trial < 20; ++trial) {
    std::shuffle(numbers.begin(), numbers.end(), random);
    BOOST_TEST(sum_of(numbers) == wanted);
    ExactSum left, right;
    const size_t cut = random() % numbers.size();
    for (size_t i = 0; i < numbers.size(); ++i) (i < cut ? left : right).add(numbers[i]);
    left.add(right);
    BOOST_TEST(left.value() == wanted);
  }
}

BOOST_AUTO_TEST_CASE(words_may_be_added_one_by_one) {
  ExactSum left, right;
  left.add(-1e10);
  left.add(3.0);
  right.add(1e10);
  for (size_t k = 0; k < left.words().size(); ++k) left.words()[k] += right.words()[k];
  BOOST_TEST(left.value() == 3.0);
}

BOOST_AUTO_TEST_CASE(many_additions_do_not_overflow_a_word) {
  ExactSum sum, doubled;
  sum.add(-0x1.fffffffffffffp0);
  for (int doubling = 0; doubling < 30; ++doubling) {
    doubled = sum;
    sum.add(doubled);
  }
  BOOST_TEST(sum.value() == -0x1.fffffffffffffp30);
}

BOOST_AUTO_TEST_CASE(a_number_that_is_not_finite_decides) {
  for (const double number : {std::nan(""), std::numeric_limits<double>::infinity(),
                              -std::numeric_limits<double>::infinity()}) {
    BOOST_TEST(std::isnan(sum_of({1.0, number})));
    ExactSum whole, part;
    part.add(number);
    whole.add(part);
    whole.add(2.0);
    BOOST_TEST(std::isnan(whole.value()));
  }
}

BOOST_AUTO_TEST_CASE(a_sum_beyond_all_doubles_is_infinite) {
  const double most = std::numeric_limits<double>::max();
  BOOST_TEST(sum_of({most, most}) == std::numeric_limits<double>::infinity());
  BOOST_TEST(sum_of({most, most, -most}) == most);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper
