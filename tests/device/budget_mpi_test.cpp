// SPDX-License-Identifier: Apache-2.0
// What a step may ask of an accelerator on one rank, where no communicator copies anything.
#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <map>
#include <sstream>
#include <string>

#include "device/methods.h"
#include "support/simulated_device/device_counts.h"
#include "support/simulated_device/host_views.h"
#include "train/invariant_run.h"

namespace temper {
namespace {

namespace data = boost::unit_test::data;
using testing::device_counts;
using testing::DeviceCounts;
using testing::Variant;

// Launches that a micro-batch of three documents may make for each of the three blocks, with its
// share of embedding and head: what was counted, and a little room. The first is fp32, where
// nothing is converted, the second bf16, where attention is fused.
const std::map<std::string, std::pair<int64_t, int64_t>> kMostLaunches = {
    {"full", {195, 115}},       {"lora", {216, 180}},  {"dora", {282, 258}},  {"qlora", {232, 196}},
    {"bottleneck", {212, 130}}, {"prefix", {181, 92}}, {"prompt", {172, 83}},
};

struct StepCounts {
  DeviceCounts last;  // Of one step.
  int64_t allocations_after_first = 0;
};

StepCounts counts_of_steps(const Variant& variant, int num_micro_batches) {
  MpiCommunicator self(MPI_COMM_SELF, testing::simulated_device());
  return testing::with_model(self, variant, [&](Engine& engine, UnitStore& store) {
    Trainer trainer(engine, store, self, Schedule({}, 3), {{.learning_rate = 0.01}, 0.5});
    RunState state;
    StepCounts counts;
    for (int step = 0; step < 3; ++step) {
      const DeviceCounts before = device_counts();
      std::vector<PackedBatch> batch;
      for (int j = 0; j < num_micro_batches; ++j) {
        batch.push_back(
            testing::tiny_batch(engine.decoder().config(), 2, testing::simulated_device()));
      }
      trainer.train_step(batch, num_micro_batches, state);
      counts.last = device_counts().since(before);
      if (step > 0) counts.allocations_after_first += counts.last.allocations;
    }
    return counts;
  });
}

std::string to_text(const DeviceCounts& counts) {
  std::ostringstream text;
  text << counts.launches << " launches:";
  for (const auto& [name, number] : counts.by_operator) text << "\n  " << number << ' ' << name;
  return text.str();
}

BOOST_AUTO_TEST_SUITE(budget)

BOOST_DATA_TEST_CASE(a_step_waits_copies_and_launches_little,
                     data::make({"full", "lora", "dora", "qlora", "bottleneck", "prefix",
                                 "prompt"}) *
                         data::make({at::kFloat, at::kBFloat16}),
                     name, dtype) {
  const Variant variant{.dtype = dtype, .head_dim = 16, .method = testing::method_of(name)};
  const StepCounts one = counts_of_steps(variant, 1), two = counts_of_steps(variant, 2);
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
