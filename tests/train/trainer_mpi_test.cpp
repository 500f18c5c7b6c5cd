// SPDX-License-Identifier: Apache-2.0
// What a step does when something is wrong with it: the same on every rank.
#include <ATen/ATen.h>

#include <boost/test/unit_test.hpp>
#include <limits>
#include <vector>

#include "comm/mpi_communicator.h"
#include "core/targets.h"
#include "support/tiny_model.h"
#include "train/trainer.h"

namespace temper {
namespace {

struct TrainerFixture {
  MpiCommunicator world{MPI_COMM_WORLD};
  Decoder decoder{testing::tiny_config(/*has_tied_head=*/true)};
  UnitStore store{decoder.units(), world, {{3, Reduction::kExact, true}}};
  Engine engine{decoder, store, Activations::kKept};
  Trainer trainer{engine, store, world, Schedule({}, 10), {{.learning_rate = 0.01}, 1.0}};
  RunState state;

  TrainerFixture() { testing::fill_weights(store); }

  std::vector<PackedBatch> batch() const {
    return {testing::tiny_batch(decoder.config(), world.rank())};
  }

  at::Tensor weights() {
    at::Tensor copy = store.gather(1).narrow(0, 0, store.state(1).unit.num_elements()).clone();
    store.release(1);
    return copy;
  }

  bool is_last_rank() const { return world.rank() == world.world_size() - 1; }
};

BOOST_FIXTURE_TEST_SUITE(trainer, TrainerFixture)

BOOST_AUTO_TEST_CASE(a_step_is_counted) {
  const at::Tensor before = weights();
  const StepResult result = trainer.train_step(batch(), state);
  BOOST_TEST(result.updated);
  BOOST_TEST(state.step == 1);
  BOOST_TEST(state.num_updates == 1);
  BOOST_TEST(state.next_micro_batch == world.world_size());
  BOOST_TEST(state.num_target_tokens == result.num_targets);
  BOOST_TEST(!at::equal(weights(), before));
}

// Unit_store's test poisons one rank's gradient; here a whole step meets weights that are broken on
// the rank that owns them.
BOOST_AUTO_TEST_CASE(one_ranks_nan_makes_all_ranks_skip) {
  const at::Tensor before = weights();
  at::Tensor master = store.state(1).master;
  const at::Tensor kept = master.clone();
  if (world.rank() == 0) master.fill_(std::numeric_limits<float>::quiet_NaN());
  BOOST_TEST(!trainer.train_step(batch(), state).updated);
  BOOST_TEST(state.num_skipped == 1);
  BOOST_TEST(state.num_skipped_in_a_row == 1);
  BOOST_TEST(state.num_updates == 0);

  master.copy_(kept);
  BOOST_TEST(at::equal(weights(), before));
  BOOST_TEST(trainer.train_step(batch(), state).updated);
  BOOST_TEST(state.num_skipped == 1);
  BOOST_TEST(state.num_skipped_in_a_row == 0);
}

BOOST_AUTO_TEST_CASE(a_step_without_any_target_changes_nothing) {
  const at::Tensor before = weights();
  std::vector<PackedBatch> empty = batch();
  empty[0].targets.fill_(kNoTarget);
  const StepResult result = trainer.train_step(empty, state);
  BOOST_TEST(!result.updated);
  BOOST_TEST(result.num_targets == 0);
  BOOST_TEST(at::equal(weights(), before));
}

BOOST_AUTO_TEST_CASE(the_loss_is_the_mean_over_all_ranks_targets) {
  std::vector<PackedBatch> uneven = batch();
  if (!is_last_rank())
    uneven[0].targets.narrow(0, 1, uneven[0].targets.numel() - 1).fill_(kNoTarget);
  double loss_sum = engine.loss(uneven[0]);
  int64_t count = uneven[0].targets.ne(kNoTarget).sum().item<int64_t>();
  at::Tensor totals = at::tensor({loss_sum, static_cast<double>(count)}, at::kDouble);
  world.all_reduce(totals, ReduceOp::kSum).wait();
  const StepResult result = trainer.train_step(uneven, state);
  const double expected = totals[0].item<double>() / totals[1].item<double>();
  BOOST_TEST(result.loss == expected, boost::test_tools::tolerance(1e-12));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper
