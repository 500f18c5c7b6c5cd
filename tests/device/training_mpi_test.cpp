// SPDX-License-Identifier: Apache-2.0
// A run on an accelerator: the same bits on any number of ranks and at every ZeRO stage, and the
// numbers of the CPU but for rounding.
#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

#include "device/device_run.h"
#include "device/methods.h"
#include "train/invariant_run.h"

namespace temper {
namespace {

namespace data = boost::unit_test::data;
using testing::check_equal;
using testing::Curve;
using testing::DeviceFixture;
using testing::difference;
using testing::method_of;
using testing::train;
using testing::Variant;

BOOST_FIXTURE_TEST_SUITE(training, DeviceFixture)

BOOST_DATA_TEST_CASE_F(DeviceFixture, every_stage_gives_the_bits_of_one_rank,
                       data::make({"full", "lora", "qlora", "prefix"}) * data::make({0, 1, 2, 3}),
                       name, stage) {
  const Variant variant{.stage = stage,
                        .dtype = at::kBFloat16,
                        .head_dim = 16,
                        .method = method_of(name),
                        .num_steps = 2};
  check_equal(train(world, variant), testing::alone(self, name, variant));
}

// What else a step can do; in fp32, so that all but rounding would show.
BOOST_DATA_TEST_CASE_F(DeviceFixture, other_ways_to_train_give_the_numbers_of_the_cpu,
                       data::make({"untied", "recomputed", "ema", "l2_sp", "kl", "frozen"}), way) {
  const std::string name = way;
  Variant variant{.num_steps = 2};
  if (name == "untied") variant.has_tied_head = false;
  if (name == "recomputed") variant.activations = Activations::kRecomputed;
  if (name == "ema") variant.ema_decay = 0.9;
  if (name == "l2_sp") variant.l2_sp = 0.1;
  if (name == "kl") variant.kl.weight = 0.5;
  if (name == "frozen") variant.parameters.trained.only = {"layers.2", "norm"};
  const Curve expected = train(host, variant), found = train(world, variant);
  BOOST_TEST(difference(found.losses, expected.losses) < 1e-6);
  BOOST_TEST(difference(found.norms, expected.norms) < 1e-5);
  BOOST_TEST(difference(found.kls, expected.kls) < 1e-3);  // Of nearly equal distributions.
  for (size_t unit = 0; unit < expected.weights.size(); ++unit) {
    const at::Tensor change = found.weights[unit].sub(expected.weights[unit]);
    BOOST_TEST(change.abs().max().item<float>() < 1e-3F, "weights of unit " << unit);
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper
