// SPDX-License-Identifier: Apache-2.0
// The arithmetic of LoRA beside LibTorch's autograd, and its dropout.
#include "model/ops/low_rank.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <cmath>

#include "model/ops/linear.h"

namespace temper {
namespace {

namespace data = boost::unit_test::data;

constexpr int64_t kTokens = 37, kIn = 24, kOut = 40;

// A product of two modules, the upper 10 and the last 13 columns, with ranks 3 and 5.
struct Fixture {
  std::shared_ptr<UnitBuffers> frozen = std::make_shared<UnitBuffers>();
  std::shared_ptr<UnitBuffers> trained = std::make_shared<UnitBuffers>();
  std::shared_ptr<Dropout> dropout = std::make_shared<Dropout>(0.3, 5);
  at::Tensor x = at::randn({kTokens, kIn});
  at::Tensor gradient = at::randn({kTokens, kOut});
  LinearWeights weights;

  Fixture() {
    frozen->weights = at::randn({kOut * kIn});
    const int64_t size = 8 * kIn + 10 * 3 + 13 * 5;
    trained->weights = at::randn({size});
    trained->gradients = at::full({size}, std::nan(""));
    weights.matrix = Weight(frozen, 0, {kOut, kIn});
    weights.low_rank.down = Weight(trained, 0, {8, kIn});
    weights.low_rank.parts = {{Weight(trained, 8 * kIn, {10, 3}), 0, 0, 0.5},
                              {Weight(trained, 8 * kIn + 30, {13, 5}), 3, 27, 2.0}};
    weights.low_rank.dropout = dropout;
    weights.low_rank.place = 9;
  }

  // The same by LibTorch's operators.
  at::Tensor expected(const at::Tensor& input, const at::Tensor& flat) const {
    const at::Tensor mask = dropout->apply(at::ones({kTokens, kIn}), 9);
    const at::Tensor dropped = input * mask;
    const at::Tensor down = flat.narrow(0, 0, 8 * kIn).view({8, kIn});
    const auto part = [&](int64_t offset, int64_t out, int64_t rank, int64_t row, double scale) {
      const at::Tensor up = flat.narrow(0, offset, out * rank).view({out, rank});
      return scale * at::mm(at::mm(dropped, down.narrow(0, row, rank).t()), up.t());
    };
    const at::Tensor added = at::cat(
        {part(8 * kIn, 10, 3, 0, 0.5), at::zeros({kTokens, 17}), part(8 * kIn + 30, 13, 5, 3, 2.0)},
        1);
    return at::mm(input, weights.matrix.value().t()) + added;
  }
};

bool is_close(const at::Tensor& a, const at::Tensor& b) {
  return at::allclose(a, b, /*rtol=*/1e-5, /*atol=*/2e-5);
}

// Values and gradients of a product beside those of expected(x, the flat trained weights).
template <typename Expected>
void check_beside_autograd(const Fixture& fixture, bool onto, Expected expected) {
  const at::Tensor residual = onto ? at::randn({kTokens, kOut}) : at::zeros({kTokens, kOut});
  const at::Tensor input = fixture.x.clone().requires_grad_();
  const at::Tensor y = onto ? linear_onto(residual, Activation(input), fixture.weights)
                            : linear(Activation(input), fixture.weights);
  const at::Tensor x_gradient = torch::autograd::grad({y}, {input}, {fixture.gradient})[0];

  const at::Tensor flat = fixture.trained->weights.clone().requires_grad_();
  const at::Tensor same_input = fixture.x.clone().requires_grad_();
  const at::Tensor wanted = expected(same_input, flat) + residual;
  const auto gradients = torch::autograd::grad({wanted}, {same_input, flat}, {fixture.gradient});
  BOOST_TEST(is_close(y.detach(), wanted.detach()));
  BOOST_TEST(is_close(x_gradient, gradients[0]));
  BOOST_TEST(is_close(fixture.trained->gradients, gradients[1]));
}

BOOST_FIXTURE_TEST_SUITE(low_rank, Fixture)

BOOST_DATA_TEST_CASE_F(Fixture, values_and_gradients_are_those_of_autograd,
                       data::make({false, true}) * data::make({false, true}), drops, onto) {
  if (drops) dropout->set_micro_batch(3);
  check_beside_autograd(*this, onto, [this](const at::Tensor& input, const at::Tensor& flat) {
    return expected(input, flat);
  });
}

// DoRA by LibTorch's operators, with lengths that are constants to the backward pass. The
// magnitudes lie behind the low-rank matrices.
at::Tensor decomposed(const Fixture& fixture, const at::Tensor& input, const at::Tensor& flat,
                      const at::Tensor& mask) {
  const at::Tensor matrix = fixture.weights.matrix.value();
  const at::Tensor dropped = input * mask;
  at::Tensor sum = at::mm(input, matrix.t());
  int64_t magnitude = 8 * kIn + 10 * 3 + 13 * 5;
  for (const LowRankPart& part : fixture.weights.low_rank.parts) {
    const int64_t out = part.up.shape()[0], rank = part.up.shape()[1];
    const at::Tensor up = flat.narrow(0, part.up.offset(), out * rank).view({out, rank});
    const at::Tensor down = flat.narrow(0, part.first_row * kIn, rank * kIn).view({rank, kIn});
    const at::Tensor rows = matrix.narrow(0, part.first_column, out);
    const at::Tensor adapted = rows + part.scale * at::mm(up, down);
    const at::Tensor length = adapted.detach().pow(2).sum(1).sqrt();
    const at::Tensor factor = flat.narrow(0, magnitude, out) / length;
    const at::Tensor change = (factor - 1) * at::mm(dropped, rows.t()) +
                              factor * part.scale * at::mm(at::mm(dropped, down.t()), up.t());
    sum = sum + at::constant_pad_nd(change, {part.first_column, kOut - part.first_column - out});
    magnitude += out;
  }
  return sum;
}

BOOST_DATA_TEST_CASE_F(Fixture, magnitudes_are_those_of_dora,
                       data::make({false, true}) * data::make({false, true}), drops, onto) {
  const int64_t before = trained->weights.numel();
  trained->weights = at::cat({trained->weights, at::rand({23}) + 0.5});
  trained->gradients = at::full_like(trained->weights, std::nan(""));
  weights.low_rank.parts[0].magnitude = Weight(trained, before, {10});
  weights.low_rank.parts[1].magnitude = Weight(trained, before + 10, {13});
  if (drops) dropout->set_micro_batch(3);
  const at::Tensor mask = dropout->apply(at::ones_like(x), 9);
  check_beside_autograd(*this, onto, [&](const at::Tensor& input, const at::Tensor& flat) {
    return decomposed(*this, input, flat, mask);
  });
}

BOOST_AUTO_TEST_CASE(frozen_bfloat16_weights_take_an_fp32_addition_rounded_once) {
  const at::Tensor narrow = x.to(at::kBFloat16);
  frozen->weights = frozen->weights.to(at::kBFloat16);
  const at::Tensor y = linear(Activation(narrow), weights);
  const at::Tensor base = at::mm(narrow, weights.matrix.value().t());
  frozen->weights = at::zeros_like(frozen->weights, at::kFloat);
  const at::Tensor added = expected(narrow.to(at::kFloat), trained->weights);
  const at::Tensor wanted = (base.to(at::kFloat) + added).to(at::kBFloat16);
  BOOST_TEST((y.scalar_type() == at::kBFloat16));
  // The order of the sums differs: now and then a number on a border is rounded the other way.
  BOOST_TEST(y.eq(wanted).to(at::kFloat).mean().item<float>() > 0.98F);
  BOOST_TEST(at::allclose(y, wanted, /*rtol=*/0.01, /*atol=*/1e-3));
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(dropout)

at::Tensor factors(uint64_t seed, int64_t micro_batch, uint64_t place) {
  Dropout dropout(0.25, seed);
  dropout.set_micro_batch(micro_batch);
  return dropout.apply(at::ones({1001, 100}), place);
}

BOOST_AUTO_TEST_CASE(so_many_are_dropped_and_the_mean_stays) {
  const at::Tensor kept = factors(1, 2, 3).ne(0);
  BOOST_TEST(std::abs(kept.to(at::kFloat).mean().item<double>() - 0.75) < 0.005);
  BOOST_TEST(std::abs(factors(1, 2, 3).mean().item<double>() - 1.0) < 0.007);
}

BOOST_AUTO_TEST_CASE(seed_micro_batch_and_place_each_give_another_mask) {
  const at::Tensor base = factors(1, 2, 3);
  BOOST_TEST(at::equal(base, factors(1, 2, 3)));
  for (const at::Tensor& other : {factors(2, 2, 3), factors(1, 3, 3), factors(1, 2, 4)}) {
    // Independent masks agree in 0.75^2 + 0.25^2 of the places.
    BOOST_TEST(std::abs(base.eq(other).to(at::kFloat).mean().item<double>() - 0.625) < 0.01);
  }
}

BOOST_AUTO_TEST_CASE(nothing_is_dropped_outside_of_training) {
  const Dropout dropout(0.25, 1);
  const at::Tensor x = at::randn({3, 4});
  BOOST_TEST(dropout.apply(x, 0).is_same(x));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper
