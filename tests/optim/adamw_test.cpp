// SPDX-License-Identifier: Apache-2.0
// Bits: the loop against the formula one element at a time, however it is cut. adamw_oracle.py
// compares with torch.
#include "optim/adamw.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <boost/test/unit_test.hpp>
#include <cmath>
#include <stdexcept>

using temper::adamw_update;
using temper::AdamWOptions;
using temper::AdamWStep;

namespace {

struct State {
  at::Tensor parameters, gradients, first_moment, second_moment;

  explicit State(int64_t size) {
    at::manual_seed(1);
    parameters = at::randn({size});
    gradients = at::randn({size}) * at::exp(4 * at::randn({size}));  // Of very different sizes.
    first_moment = at::randn({size});
    second_moment = at::randn({size}).square();
    gradients.narrow(0, 0, 1).zero_();
    second_moment.narrow(0, 0, 1).zero_();
  }

  void update(const AdamWOptions& options, const AdamWStep& step, int64_t begin, int64_t end) {
    const auto part = [=](const at::Tensor& all) { return all.narrow(0, begin, end - begin); };
    adamw_update({part(parameters), part(gradients), part(first_moment), part(second_moment)},
                 options, step);
  }

  bool operator==(const State& other) const {
    return at::equal(parameters, other.parameters) && at::equal(first_moment, other.first_moment) &&
           at::equal(second_moment, other.second_moment);
  }
};

const AdamWOptions kOptions{.learning_rate = 3e-3, .beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8};
const AdamWStep kStep{
    .step = 7, .learning_rate = 3e-3, .gradient_scale = 0.37, .weight_decay = 0.1};
constexpr int64_t kSize = 100003;  // A prime, several times what a thread gets.

// `volatile` keeps the compiler from fusing and from vectorising.
void update_one(State& state, int64_t k) {
  float& parameter = state.parameters.data_ptr<float>()[k];
  float& first = state.first_moment.data_ptr<float>()[k];
  float& second = state.second_moment.data_ptr<float>()[k];
  const auto first_share = static_cast<float>(1 - 0.9);
  const auto second_share = static_cast<float>(1 - 0.95);
  volatile float gradient = state.gradients.data_ptr<float>()[k] * 0.37f;
  volatile float difference = gradient - first;
  volatile float change = first_share * difference;
  first = first + change;
  volatile float faded = second * 0.95f;
  volatile float share = second_share * gradient;
  volatile float square = share * gradient;
  second = faded + square;
  volatile float root = std::sqrt(second);
  volatile float corrected = root / static_cast<float>(std::sqrt(1 - std::pow(0.95, 7)));
  volatile float denominator = corrected + 1e-8f;
  volatile float kept = parameter * static_cast<float>(1 - 3e-3 * 0.1);
  volatile float step = static_cast<float>(3e-3 / (1 - std::pow(0.9, 7))) * first;
  volatile float quotient = step / denominator;
  parameter = kept - quotient;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(adamw)

BOOST_AUTO_TEST_CASE(the_loop_has_the_bits_of_the_formula_one_element_at_a_time) {
  State vectorised(kSize), scalar(kSize);
  vectorised.update(kOptions, kStep, 0, kSize);
  for (int64_t k = 0; k < kSize; ++k) update_one(scalar, k);
  BOOST_TEST((vectorised == scalar));
  BOOST_TEST(!at::equal(vectorised.parameters, State(kSize).parameters));
}

BOOST_AUTO_TEST_CASE(any_cut_and_any_number_of_threads_give_the_same_bits) {
  State whole(kSize);
  at::set_num_threads(1);
  whole.update(kOptions, kStep, 0, kSize);
  at::set_num_threads(3);
  for (const int64_t piece : {1000, 4097, 33333, 65536}) {
    State cut(kSize);
    for (int64_t begin = 0; begin < kSize; begin += piece) {
      cut.update(kOptions, kStep, begin, std::min(begin + piece, kSize));
    }
    BOOST_TEST((cut == whole), "pieces of " << piece);
  }
  at::set_num_threads(1);
}

BOOST_AUTO_TEST_CASE(operators_agree_with_the_loop) {
  State loop(kSize), operators(kSize);
  for (int64_t step = 1; step <= 20; ++step) {
    const AdamWStep now{step, 1e-3, 0.5, 0.1};
    loop.update(kOptions, now, 0, kSize);
    adamw_update_by_operators({operators.parameters, operators.gradients, operators.first_moment,
                               operators.second_moment},
                              kOptions, now);
  }
  // Twenty steps, in each of which a compiler may fuse other products and sums.
  BOOST_TEST(at::allclose(loop.parameters, operators.parameters, 3e-6, 1e-7));
  BOOST_TEST(at::allclose(loop.first_moment, operators.first_moment, 3e-6, 1e-7));
  BOOST_TEST(at::allclose(loop.second_moment, operators.second_moment, 3e-6, 1e-7));
}

BOOST_AUTO_TEST_CASE(rounded_parameters_are_those_of_the_step) {
  State state(kSize), same(kSize);
  const at::Tensor rounded = at::empty({kSize}, at::kBFloat16);
  adamw_update(
      {state.parameters, state.gradients, state.first_moment, state.second_moment, rounded},
      kOptions, kStep);
  same.update(kOptions, kStep, 0, kSize);
  BOOST_TEST((state == same));
  BOOST_TEST(at::equal(rounded, same.parameters.to(at::kBFloat16)));
}

BOOST_AUTO_TEST_CASE(tensors_that_do_not_fit_are_refused) {
  State state(8);
  const auto update = [&](const at::Tensor& gradients) {
    adamw_update({state.parameters, gradients, state.first_moment, state.second_moment}, kOptions,
                 kStep);
  };
  BOOST_CHECK_THROW(update(at::zeros({7})), std::invalid_argument);
  BOOST_CHECK_THROW(update(at::zeros({8}, at::kDouble)), std::invalid_argument);
  BOOST_CHECK_THROW(update(at::zeros({16}).slice(0, 0, 16, 2)), std::invalid_argument);
  for (const at::Tensor& rounded : {at::zeros({8}), at::zeros({7}, at::kBFloat16)}) {
    BOOST_CHECK_THROW(adamw_update({state.parameters, state.gradients, state.first_moment,
                                    state.second_moment, rounded},
                                   kOptions, kStep),
                      std::invalid_argument);
  }
}

BOOST_AUTO_TEST_CASE(an_empty_range_is_nothing_to_do) {
  State state(8), same(8);
  state.update(kOptions, kStep, 3, 3);
  BOOST_TEST((state == same));
}

BOOST_AUTO_TEST_SUITE_END()
