// SPDX-License-Identifier: Apache-2.0
// The arithmetic of LoRA beside LibTorch's autograd, and its dropout.
#include "model/ops/low_rank.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <cmath>

#include "core/random.h"
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

  // Makes it DoRA.
  void add_magnitudes() {
    const int64_t before = trained->weights.numel();
    trained->weights = at::cat({trained->weights, at::rand({23}) + 0.5});
    trained->gradients = at::full_like(trained->weights, std::nan(""));
    weights.low_rank.parts[0].magnitude = Weight(trained, before, {10});
    weights.low_rank.parts[1].magnitude = Weight(trained, before + 10, {13});
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
  add_magnitudes();
  if (drops) dropout->set_micro_batch(3);
  const at::Tensor mask = dropout->apply(at::ones_like(x), 9);
  check_beside_autograd(*this, onto, [&](const at::Tensor& input, const at::Tensor& flat) {
    return decomposed(*this, input, flat, mask);
  });
}

// Values and gradients of a product in bf16 beside those of fp32: a number that is rounded on the
// way is off by some units of bf16, measured by the size of the sums.
template <typename Expected>
void check_narrow(Fixture& fixture, Expected expected) {
  constexpr double kUnits = 3.0 / 256.0;
  const at::Tensor narrow = fixture.x.to(at::kBFloat16), upper = fixture.gradient.to(at::kBFloat16);
  fixture.frozen->weights = fixture.frozen->weights.to(at::kBFloat16);
  const at::Tensor input = narrow.clone().requires_grad_();
  const at::Tensor y = linear(Activation(input), fixture.weights);
  const at::Tensor x_gradient = torch::autograd::grad({y}, {input}, {upper})[0];
  BOOST_TEST((y.scalar_type() == at::kBFloat16));

  fixture.frozen->weights = fixture.frozen->weights.to(at::kFloat);
  const at::Tensor flat = fixture.trained->weights.clone().requires_grad_();
  const at::Tensor wide = narrow.to(at::kFloat).requires_grad_();
  const at::Tensor wanted = expected(wide, flat);
  const auto gradients = torch::autograd::grad({wanted}, {wide, flat}, {upper.to(at::kFloat)});
  const auto distance = [](const at::Tensor& own, const at::Tensor& other) {
    return (own.to(at::kFloat) - other).norm().item<double>() / other.norm().item<double>();
  };
  BOOST_TEST(distance(y.detach(), wanted.detach()) < kUnits);
  BOOST_TEST(distance(x_gradient, gradients[0]) < kUnits);
  BOOST_TEST(distance(fixture.trained->gradients, gradients[1]) < kUnits);
  BOOST_TEST((fixture.trained->gradients.scalar_type() == at::kFloat));
}

BOOST_DATA_TEST_CASE_F(Fixture, bfloat16_is_as_good_as_its_numbers, data::make({false, true}),
                       drops) {
  if (drops) dropout->set_micro_batch(3);
  check_narrow(*this, [this](const at::Tensor& input, const at::Tensor& flat) {
    return expected(input, flat);
  });
}

BOOST_DATA_TEST_CASE_F(Fixture, magnitudes_in_bfloat16_are_as_good_as_its_numbers,
                       data::make({false, true}), drops) {
  add_magnitudes();
  if (drops) dropout->set_micro_batch(3);
  const at::Tensor mask = dropout->apply(at::ones_like(x), 9);
  check_narrow(*this, [&](const at::Tensor& input, const at::Tensor& flat) {
    return decomposed(*this, input, flat, mask);
  });
}

// What is added is rounded with the product, not after it.
BOOST_AUTO_TEST_CASE(what_is_added_is_part_of_the_sum) {
  const at::Tensor narrow = x.to(at::kBFloat16);
  frozen->weights = frozen->weights.to(at::kBFloat16);
  const at::Tensor base = weights.matrix.value().to(at::kFloat);
  for (LowRankPart& part : weights.low_rank.parts) part.scale = 1.0;
  trained->weights = trained->weights.to(at::kBFloat16).to(at::kFloat);
  const at::Tensor y = linear(Activation(narrow), weights);
  const at::Tensor wide = narrow.to(at::kFloat);
  at::Tensor wanted = at::mm(wide, base.t());
  const at::Tensor projected = at::mm(wide, weights.low_rank.down.value().t());
  for (const LowRankPart& part : weights.low_rank.parts) {
    const int64_t out = part.up.shape()[0], rank = part.up.shape()[1];
    const at::Tensor own = projected.narrow(1, part.first_row, rank).to(at::kBFloat16);
    wanted.narrow(1, part.first_column, out).add_(at::mm(own.to(at::kFloat), part.up.value().t()));
  }
  // The order of the sums differs: now and then a number on a border is rounded the other way.
  BOOST_TEST(y.eq(wanted.to(at::kBFloat16)).to(at::kFloat).mean().item<float>() > 0.98F);
}

// One product projects for all parts where their scales are the same, else one for each.
BOOST_AUTO_TEST_CASE(equal_scales_are_no_special_case) {
  for (LowRankPart& part : weights.low_rank.parts) part.scale = 2.0;
  const at::Tensor together = linear(Activation(x), weights);
  weights.low_rank.parts[0].scale = 1.0;
  trained->weights.narrow(0, 8 * kIn, 30).mul_(2.0);
  BOOST_TEST(is_close(linear(Activation(x), weights), together));
}

// Lengths are those of the weights that are there, however often they are used or change.
BOOST_AUTO_TEST_CASE(lengths_follow_the_weights) {
  add_magnitudes();
  const at::Tensor mask = at::ones_like(x);
  const auto check = [&](const char* when) {
    const at::Tensor y = linear(Activation(x), weights);
    BOOST_TEST(is_close(y, decomposed(*this, x, trained->weights, mask)), when);
    return y;
  };
  frozen->version = trained->version = {1};
  const at::Tensor first = check("at first");
  BOOST_TEST(at::equal(check("again"), first));
  trained->weights = trained->weights + 0.5;
  trained->version = {2};
  check("after an update");
  frozen->weights = frozen->weights * 2.0;
  frozen->version = {2};
  check("with another base");
  frozen->version = trained->version = {};
  trained->weights = trained->weights - 0.25;
  check("of an unknown version");
  trained->weights = trained->weights - 0.25;
  check("of another unknown version");
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

// The masks that adapters were trained with: the bits of the generator, 16 for each element.
BOOST_AUTO_TEST_CASE(each_element_has_its_own_bits) {
  constexpr int64_t kRows = 37, kColumns = 83;
  Dropout dropout(0.25, 6);
  dropout.set_micro_batch(2);
  const at::Tensor mask = dropout.apply(at::ones({kRows, kColumns}), 3);
  const uint64_t key = random_word(uint64_t{6} ^ (uint64_t{3} << 32), 2);
  for (int64_t i = 0; i < kRows * kColumns; ++i) {
    const auto words = philox(key, {static_cast<uint32_t>(i / 8), 0, 0, 0});
    const uint32_t bits = words[static_cast<size_t>(i % 8 / 2)] >> (16 * (i % 2)) & 0xFFFFU;
    const float wanted = bits < 16384 ? 0.0F : 1.0F / 0.75F;
    BOOST_REQUIRE(mask.view({-1})[i].item<float>() == wanted);
  }
}

BOOST_AUTO_TEST_CASE(dtypes_and_sums_have_the_same_mask) {
  Dropout dropout(0.25, 7);
  dropout.set_micro_batch(2);
  const at::Tensor x = at::randn({33, 100}), sum = at::randn({33, 100});
  const at::Tensor wide = dropout.apply(x, 3);
  const at::Tensor narrow = x.to(at::kBFloat16);
  const at::Tensor dropped = dropout.apply(narrow.to(at::kFloat), 3);
  BOOST_TEST(at::equal(dropout.apply(narrow, 3), dropped.to(at::kBFloat16)));
  at::Tensor added = sum.clone();
  dropout.add_applied(added, x, 3);
  BOOST_TEST(at::allclose(added, sum + wide, 1e-6, 1e-6));
  at::Tensor narrow_sum = sum.to(at::kBFloat16);
  const at::Tensor once = (narrow_sum.to(at::kFloat) + dropped).to(at::kBFloat16);
  dropout.add_applied(narrow_sum, narrow, 3);
  BOOST_TEST(narrow_sum.eq(once).to(at::kFloat).mean().item<float>() > 0.999F);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper
