// SPDX-License-Identifier: Apache-2.0
// The promise: loss curve and final weights are the same bits on any number of ranks and threads,
// at every ZeRO stage, with prefetching and recomputation on or off.
#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <filesystem>

#include "train/invariant_run.h"

namespace temper {
namespace {

namespace data = boost::unit_test::data;
using testing::check_equal;
using testing::Curve;
using testing::RanksFixture;
using testing::train;
using testing::Variant;

BOOST_FIXTURE_TEST_SUITE(invariance, RanksFixture)

BOOST_DATA_TEST_CASE_F(RanksFixture, every_stage_gives_the_bits_of_one_rank,
                       data::make({0, 1, 2, 3}) * data::make({at::kFloat, at::kBFloat16}) *
                           data::make({true, false}),
                       stage, dtype, tied) {
  Variant variant{.stage = stage, .dtype = dtype, .has_tied_head = tied};
  Variant alone = variant;
  alone.stage = 0;
  check_equal(train(world, variant), train(self, alone));
}

BOOST_AUTO_TEST_CASE(prefetching_does_not_change_the_bits) {
  check_equal(train(world, {.prefetches = false}), train(self, {.prefetches = true}));
}

BOOST_AUTO_TEST_CASE(recomputation_does_not_change_the_bits) {
  check_equal(train(world, {.activations = Activations::kRecomputed}),
              train(self, {.activations = Activations::kKept}));
}

BOOST_DATA_TEST_CASE_F(RanksFixture, three_threads_give_the_bits_of_one,
                       data::make({at::kFloat, at::kBFloat16}), dtype) {
  check_equal(train(world, {.dtype = dtype, .threads = 3}), train(self, {.dtype = dtype}));
}

BOOST_DATA_TEST_CASE_F(RanksFixture, moments_in_fewer_bits_give_the_bits_of_one_rank,
                       data::make({1, 2}) * data::make({0, 1, 2, 3}) *
                           data::make({at::kFloat, at::kBFloat16}),
                       moments, stage, dtype) {
  const Variant variant{.stage = stage, .dtype = dtype, .moment_dtype = MomentDtype(moments)};
  Variant alone = variant;
  alone.stage = 0;
  const Curve one = train(self, alone);
  check_equal(train(world, variant), one);
  alone.moment_dtype = MomentDtype::kFloat32;
  const Curve exact = train(self, alone);
  BOOST_TEST(!at::equal(exact.weights[1], one.weights[1]));
}

BOOST_DATA_TEST_CASE_F(RanksFixture, offloading_does_not_change_the_bits,
                       data::make({0, 2, 3}) * data::make({at::kFloat, at::kBFloat16}) *
                           data::make({0, 1, 2}),
                       stage, dtype, moments) {
  const Variant variant{.stage = stage, .dtype = dtype, .moment_dtype = MomentDtype(moments)};
  Variant offloaded = variant;
  offloaded.offload = std::filesystem::temp_directory_path();
  check_equal(train(world, offloaded), train(self, variant));
}

// Less than a rounding of bf16 from what fp32 moments come to, after a loss that has fallen.
BOOST_DATA_TEST_CASE_F(RanksFixture, moments_in_fewer_bits_learn_as_well, data::make({1, 2}),
                       moments) {
  Variant variant;
  variant.num_steps = 60;
  const Curve exact = train(world, variant);
  variant.moment_dtype = MomentDtype(moments);
  const Curve compact = train(world, variant);
  double difference = 0.0;
  for (size_t step = 40; step < 60; ++step) difference += compact.losses[step] - exact.losses[step];
  BOOST_TEST(exact.losses.back() < exact.losses.front());
  BOOST_TEST(std::abs(difference / 20.0) < 0.02);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper
