// SPDX-License-Identifier: Apache-2.0
// How well a run learns. On one rank: any other number has its bits, as invariance_mpi_test shows.
#include <boost/test/unit_test.hpp>
#include <cmath>

#include "train/invariant_run.h"

namespace temper {
namespace {

using testing::Curve;
using testing::RanksFixture;
using testing::Variant;

BOOST_FIXTURE_TEST_SUITE(learning, RanksFixture)

// Less than a rounding of bf16 from what fp32 moments come to, after a loss that has fallen.
BOOST_AUTO_TEST_CASE(moments_in_fewer_bits_learn_as_well) {
  Variant variant;
  variant.num_steps = 60;
  const Curve exact = testing::train(world, variant);
  BOOST_TEST(exact.losses.back() < exact.losses.front());
  for (const MomentDtype moments : {MomentDtype::kBfloat16, MomentDtype::kInt8}) {
    variant.moment_dtype = moments;
    const Curve compact = testing::train(world, variant);
    double difference = 0.0;
    for (size_t i = 40; i < 60; ++i) difference += compact.losses[i] - exact.losses[i];
    BOOST_TEST(std::abs(difference / 20.0) < 0.02, "moments " << static_cast<int>(moments));
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper
