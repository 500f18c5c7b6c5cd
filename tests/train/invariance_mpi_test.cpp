// SPDX-License-Identifier: Apache-2.0
// The promise: loss curve and final weights are the same bits on any number of ranks and threads,
// at every ZeRO stage, with prefetching and recomputation on or off.
#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
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

// By one rank, at stage 0.
const Curve& whole_alone(Communicator& self, const Variant& variant) {
  return testing::alone(self, "whole", variant);
}

BOOST_DATA_TEST_CASE_F(RanksFixture, every_stage_gives_the_bits_of_one_rank,
                       data::make({0, 1, 2, 3}) * data::make({at::kFloat, at::kBFloat16}) *
                           data::make({true, false}),
                       stage, dtype, tied) {
  const Variant variant{.stage = stage, .dtype = dtype, .has_tied_head = tied};
  check_equal(train(world, variant), whole_alone(self, variant));
}

BOOST_AUTO_TEST_CASE(prefetching_does_not_change_the_bits) {
  check_equal(train(world, {.prefetches = false}), whole_alone(self, {}));
}

BOOST_AUTO_TEST_CASE(recomputation_does_not_change_the_bits) {
  check_equal(train(world, {.activations = Activations::kRecomputed}), whole_alone(self, {}));
}

BOOST_DATA_TEST_CASE_F(RanksFixture, three_threads_give_the_bits_of_one,
                       data::make({at::kFloat, at::kBFloat16}), dtype) {
  check_equal(train(world, {.dtype = dtype, .threads = 3}), whole_alone(self, {.dtype = dtype}));
}

BOOST_DATA_TEST_CASE_F(RanksFixture, moments_in_fewer_bits_give_the_bits_of_one_rank,
                       data::make({1, 2}) * data::make({0, 1, 2, 3}) *
                           data::make({at::kFloat, at::kBFloat16}),
                       moments, stage, dtype) {
  const Variant variant{.stage = stage, .dtype = dtype, .moment_dtype = MomentDtype(moments)};
  const Curve& one = whole_alone(self, variant);
  check_equal(train(world, variant), one);
  const Curve& exact = whole_alone(self, {.dtype = dtype});
  BOOST_TEST(!at::equal(exact.weights[1], one.weights[1]));
}

BOOST_DATA_TEST_CASE_F(RanksFixture, offloading_does_not_change_the_bits,
                       data::make({0, 2, 3}) * data::make({at::kFloat, at::kBFloat16}) *
                           data::make({0, 1, 2}),
                       stage, dtype, moments) {
  Variant variant{.stage = stage, .dtype = dtype, .moment_dtype = MomentDtype(moments)};
  const Curve& in_memory = whole_alone(self, variant);
  variant.offload = std::filesystem::temp_directory_path();
  check_equal(train(world, variant), in_memory);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper
