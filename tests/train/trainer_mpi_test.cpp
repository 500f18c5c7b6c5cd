// SPDX-License-Identifier: Apache-2.0
// What a step does when something is wrong with it: the same on every rank.
#include <ATen/ATen.h>

#include <boost/test/unit_test.hpp>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "comm/mpi_communicator.h"
#include "core/targets.h"
#include "support/tiny_model.h"
#include "train/trainer.h"

namespace temper {
namespace {

struct TrainerFixture {
  MpiCommunicator world{MPI_COMM_WORLD};
  Decoder decoder;
  UnitStore store;
  Engine engine{decoder, store, Activations::kKept};
  Trainer trainer{engine, store, world, Schedule({}, 10), {{.learning_rate = 0.01}, 1.0}};
  RunState state;

  explicit TrainerFixture(bool has_tied_head = true, at::ScalarType dtype = at::kFloat)
      : decoder(testing::tiny_config(has_tied_head)),
        store(in_form(decoder.units(), {.dtype = dtype}), world, {{3, Reduction::kExact, true}}) {
    testing::fill_weights(store);
  }

  std::vector<PackedBatch> batch() const {
    return {testing::tiny_batch(decoder.config(), world.rank())};
  }

  at::Tensor weights() {
    at::Tensor copy = store.gather(1).narrow(0, 0, store.state(1).unit.num_elements()).clone();
    store.release(1);
    return copy;
  }

  // Each rank has one micro-batch.
  StepResult train(const std::vector<PackedBatch>& rank_batch) {
    return trainer.train_step(rank_batch, world.world_size(), state);
  }

  bool is_last_rank() const { return world.rank() == world.world_size() - 1; }
};

// In bf16, every hidden state points along its first feature: normed it is sqrt(48) there, and
// nearly nothing elsewhere.
struct OneFeatureFixture : TrainerFixture {
  OneFeatureFixture() : TrainerFixture(/*has_tied_head=*/false, at::kBFloat16) {
    set_first_feature("model.embed_tokens.weight", [](int64_t) { return 1e10F; });
  }

  // Of each row of a matrix, or of a vector; on whichever rank keeps it.
  template <typename Value>
  void set_first_feature(const std::string& name, Value value_of_row) {
    const int64_t width = decoder.config().hidden_size;
    for (int unit = 0; unit < store.num_units(); ++unit) {
      UnitState& at_unit = store.state(unit);
      const TensorSlot* slot = at_unit.unit.find(name);
      if (slot == nullptr) continue;
      for (int64_t row = 0; row < slot->num_elements() / width; ++row) {
        const int64_t place = slot->offset + row * width;
        if (intersection(at_unit.kept, {place, place + 1}).is_empty()) continue;
        at_unit.master[place - at_unit.kept.begin].fill_(value_of_row(row));
      }
      store.publish(unit);
    }
  }

  // Rank 0 alone has targets.
  StepResult skipped_step(int64_t num_targets) {
    const at::Tensor before = weights();
    std::vector<PackedBatch> few_targets = batch();
    few_targets[0].targets.fill_(kNoTarget);
    if (world.rank() == 0) few_targets[0].targets.narrow(0, 0, num_targets).fill_(kTarget);
    const StepResult result = train(few_targets);
    BOOST_TEST(!result.updated);
    BOOST_TEST(state.num_skipped == 1);
    BOOST_TEST(at::equal(weights(), before));
    return result;
  }

  static constexpr int64_t kTarget = 1;
};

BOOST_FIXTURE_TEST_SUITE(trainer, TrainerFixture)

BOOST_AUTO_TEST_CASE(a_step_is_counted) {
  const at::Tensor before = weights();
  const StepResult result = train(batch());
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
  BOOST_TEST(!train(batch()).updated);
  BOOST_TEST(state.num_skipped == 1);
  BOOST_TEST(state.num_skipped_in_a_row == 1);
  BOOST_TEST(state.num_without_target_in_a_row == 0);
  BOOST_TEST(state.num_updates == 0);

  master.copy_(kept);
  BOOST_TEST(at::equal(weights(), before));
  BOOST_TEST(train(batch()).updated);
  BOOST_TEST(state.num_skipped == 1);
  BOOST_TEST(state.num_skipped_in_a_row == 0);
}

// The target's logit is -3.400e38: a number in fp32, in which gradients are summed, but rounded to
// minus infinity in bf16, in which logits are kept. Normed, the feature is 7.15625 in bf16, and
// 7.145 in the fp32 of the backward pass.
BOOST_FIXTURE_TEST_CASE(an_infinite_loss_alone_is_skipped, OneFeatureFixture) {
  set_first_feature("model.norm.weight", [](int64_t) { return 1.03125F; });
  set_first_feature("lm_head.weight",
                    [](int64_t row) { return row == kTarget ? std::ldexp(-143.0F, 118) : 0.0F; });
  const StepResult result = skipped_step(/*num_targets=*/1);
  BOOST_TEST(!std::isfinite(result.loss));
  BOOST_TEST(std::isfinite(result.grad_norm));
}

// The head ignores the big feature, so that all logits are small; the feature's gradient is the sum
// of -2.8e38 over the tokens.
BOOST_FIXTURE_TEST_CASE(an_infinite_gradient_alone_is_skipped, OneFeatureFixture) {
  set_first_feature("model.norm.weight", [](int64_t) { return 4e37F; });
  set_first_feature("lm_head.weight", [](int64_t) { return 0.0F; });
  const StepResult result = skipped_step(/*num_targets=*/3);
  BOOST_TEST(std::isfinite(result.loss));
  BOOST_TEST(!std::isfinite(result.grad_norm));
}

BOOST_AUTO_TEST_CASE(a_step_without_any_target_changes_nothing) {
  const at::Tensor before = weights();
  std::vector<PackedBatch> empty = batch();
  empty[0].targets.fill_(kNoTarget);
  const StepResult result = train(empty);
  BOOST_TEST(!result.updated);
  BOOST_TEST(result.num_targets == 0);
  BOOST_TEST(state.num_skipped_in_a_row == 1);
  BOOST_TEST(state.num_without_target_in_a_row == 1);
  BOOST_TEST(at::equal(weights(), before));
}

BOOST_AUTO_TEST_CASE(the_loss_is_the_mean_over_all_ranks_targets) {
  std::vector<PackedBatch> uneven = batch();
  if (!is_last_rank())
    uneven[0].targets.narrow(0, 1, uneven[0].targets.numel() - 1).fill_(kNoTarget);
  const double loss_sum =
      -engine.scores(uneven[0]).log_probabilities.to(at::kDouble).sum().item<double>();
  int64_t count = uneven[0].targets.ne(kNoTarget).sum().item<int64_t>();
  at::Tensor totals = at::tensor({loss_sum, static_cast<double>(count)}, at::kDouble);
  world.all_reduce(totals, ReduceOp::kSum).wait();
  const StepResult result = train(uneven);
  const double expected = totals[0].item<double>() / totals[1].item<double>();
  BOOST_TEST(result.loss == expected, boost::test_tools::tolerance(1e-12));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper
