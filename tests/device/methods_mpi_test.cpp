// SPDX-License-Identifier: Apache-2.0
// What one rank makes of each method on an accelerator: the numbers of the CPU but for rounding.
#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include "device/device_run.h"
#include "device/methods.h"

namespace temper {
namespace {

namespace data = boost::unit_test::data;
using testing::Curve;
using testing::DeviceFixture;
using testing::difference;
using testing::method_of;
using testing::train;
using testing::Variant;

BOOST_FIXTURE_TEST_SUITE(methods, DeviceFixture)

BOOST_DATA_TEST_CASE_F(DeviceFixture, every_method_gives_the_numbers_of_the_cpu,
                       data::make({"full", "lora", "dora", "qlora", "bottleneck", "prefix",
                                   "prompt"}) *
                           data::make({at::kFloat, at::kBFloat16}),
                       name, dtype) {
  const Variant variant{.dtype = dtype, .head_dim = 16, .method = method_of(name), .num_steps = 2};
  const Curve expected = train(host, variant), found = train(self, variant);
  const bool is_exact = dtype == at::kFloat;  // 1e-8 and 2e-7 were seen, 7e-4 and 4e-3.
  BOOST_TEST(difference(found.losses, expected.losses) < (is_exact ? 1e-6 : 3e-3));
  BOOST_TEST(difference(found.norms, expected.norms) < (is_exact ? 1e-5 : 2e-2));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper
