// SPDX-License-Identifier: Apache-2.0
// What a step may ask of an accelerator on one rank, where no communicator copies anything.
#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <map>
#include <string>
#include <utility>

#include "device/methods.h"
#include "device/step_counts.h"
#include "support/simulated_device/host_views.h"

namespace temper {
namespace {

namespace data = boost::unit_test::data;
using testing::counts_of_steps;
using testing::DeviceCounts;
using testing::StepCounts;
using testing::to_text;
using testing::Variant;

// Launches that a micro-batch of three documents may make for each of the three blocks, with its
// share of embedding and head: what was counted, and a little room. The first is fp32, where
// nothing is converted, the second bf16, where attention is fused.
const std::map<std::string, std::pair<int64_t, int64_t>> kMostLaunches = {
    {"full", {195, 115}},       {"lora", {216, 180}},  {"dora", {282, 258}},  {"qlora", {232, 196}},
    {"bottleneck", {213, 131}}, {"prefix", {181, 92}}, {"prompt", {172, 83}},
};

BOOST_AUTO_TEST_SUITE(budget)

BOOST_DATA_TEST_CASE(a_step_waits_copies_and_launches_little,
                     data::make({"full", "lora", "dora", "qlora", "bottleneck", "prefix",
                                 "prompt"}) *
                         data::make({at::kFloat, at::kBFloat16}),
                     name, dtype) {
  const Variant variant{.dtype = dtype, .head_dim = 16, .method = testing::method_of(name)};
  MpiCommunicator self(MPI_COMM_SELF, testing::simulated_device());
  const StepCounts one = counts_of_steps(self, variant, 1), two = counts_of_steps(self, variant, 2);
  const DeviceCounts micro_batch = two.last.since(one.last), &step = one.last;
  BOOST_TEST(micro_batch.waits == 1, to_text(micro_batch));  // For the losses.
  BOOST_TEST(step.waits == 2, to_text(step));                // And for the norm.
  // Tokens, positions, targets, the targets' rows, and for fused attention where documents begin:
  // equal batches follow each other here, so that it is known already.
  BOOST_TEST(micro_batch.copies_in == 4);
  BOOST_TEST(step.copies_in == 4);
  BOOST_TEST(micro_batch.copies_out == 1);
  BOOST_TEST(step.copies_out == 2);
  BOOST_TEST(one.allocations_after_first == 0);
  BOOST_TEST(two.allocations_after_first == 0);
  const auto& [exact, narrow] = kMostLaunches.at(name);
  BOOST_TEST_MESSAGE(name << ' ' << dtype << ": " << micro_batch.launches / 3 << " a block");
  const int64_t most = 3 * (dtype == at::kFloat ? exact : narrow);
  BOOST_TEST(micro_batch.launches <= most, most << " are allowed, not " << to_text(micro_batch));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper
