// SPDX-License-Identifier: Apache-2.0
#include "optim/gradient_norm.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <boost/test/unit_test.hpp>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <vector>

using temper::add_squares;
using temper::clip_factor;
using temper::ExactSum;
using temper::kNormBlock;

namespace {

double norm_of(const at::Tensor& gradients) {
  ExactSum sum;
  add_squares(gradients, sum);
  return std::sqrt(sum.value());
}

// Numbers of very different sizes, where any other order shows.
at::Tensor wild(int64_t size) {
  at::manual_seed(1);
  return at::randn({size}) * at::exp(6 * at::randn({size}));
}

constexpr int64_t kSize = 40 * kNormBlock + 17;

}  // namespace

BOOST_AUTO_TEST_SUITE(gradient_norm)

BOOST_AUTO_TEST_CASE(three_and_four_make_five) {
  BOOST_TEST(norm_of(at::tensor({3.0f, 4.0f})) == 5.0);
}

BOOST_AUTO_TEST_CASE(clipping_binds_above_the_limit_alone) {
  const double factor = clip_factor(5.0, 1.0);
  BOOST_TEST(norm_of(at::tensor({3.0f, 4.0f}) * factor) == 1.0, boost::test_tools::tolerance(1e-6));
  BOOST_TEST(clip_factor(3.0, 3.0) == 3.0 / (3.0 + 1e-6));  // As in torch.
  BOOST_TEST(clip_factor(5.0, 10.0) == 1.0);
  BOOST_TEST(clip_factor(0.0, 1.0) == 1.0);
  BOOST_TEST(clip_factor(5.0, 0.0) == 1.0);  // No clipping.
}

BOOST_AUTO_TEST_CASE(it_is_the_norm_that_torch_computes) {
  const at::Tensor gradients = wild(kSize);
  const double expected = at::linalg_vector_norm(gradients.to(at::kDouble)).item<double>();
  BOOST_TEST(norm_of(gradients) == expected, boost::test_tools::tolerance(1e-13));
}

BOOST_AUTO_TEST_CASE(any_cut_and_any_number_of_threads_give_the_same_bits) {
  const at::Tensor gradients = wild(kSize);
  at::set_num_threads(1);
  const double whole = norm_of(gradients);
  at::set_num_threads(3);
  BOOST_TEST(norm_of(gradients) == whole);
  for (const int64_t blocks : {1, 3, 16, 39, 40}) {
    ExactSum first, last;
    const int64_t cut = blocks * kNormBlock;
    add_squares(gradients.narrow(0, cut, kSize - cut), last);
    add_squares(gradients.narrow(0, 0, cut), first);
    last.add(first);
    BOOST_TEST(std::sqrt(last.value()) == whole, "cut after " << blocks << " blocks");
  }
  at::set_num_threads(1);
}

BOOST_AUTO_TEST_CASE(operators_agree_with_the_loop) {
  ExactSum loop, operators, cut;
  const at::Tensor gradients = wild(kSize);
  add_squares(gradients, loop);
  add_squares_by_operators(std::vector{gradients}, operators);
  BOOST_TEST(operators.value() == loop.value(), boost::test_tools::tolerance(1e-13));
  add_squares_by_operators(std::vector{gradients.narrow(0, 0, kNormBlock)}, cut);
  add_squares_by_operators(std::vector{gradients.narrow(0, kNormBlock, kSize - kNormBlock)}, cut);
  BOOST_TEST(cut.value() == operators.value());
}

BOOST_AUTO_TEST_CASE(the_largest_gradients_do_not_overflow) {
  const float largest = std::numeric_limits<float>::max();
  BOOST_TEST(norm_of(at::full({2}, largest)) == std::sqrt(2.0) * static_cast<double>(largest),
             boost::test_tools::tolerance(1e-15));
}

BOOST_AUTO_TEST_CASE(one_gradient_that_is_not_finite_shows) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    at::Tensor gradients = at::ones({3 * kNormBlock});
    gradients[kNormBlock + 5] = bad;
    BOOST_TEST(!std::isfinite(norm_of(gradients)));
  }
}

BOOST_AUTO_TEST_CASE(tensors_that_do_not_fit_are_refused) {
  ExactSum sum;
  BOOST_CHECK_THROW(add_squares(at::zeros({4}, at::kDouble), sum), std::invalid_argument);
  BOOST_CHECK_THROW(add_squares(at::zeros({8}).slice(0, 0, 8, 2), sum), std::invalid_argument);
  add_squares(at::zeros({0}), sum);
  BOOST_TEST(sum.value() == 0.0);
}

BOOST_AUTO_TEST_SUITE_END()
