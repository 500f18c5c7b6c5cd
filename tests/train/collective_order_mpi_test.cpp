// SPDX-License-Identifier: Apache-2.0
// All ranks make the same calls in the same order with the same sizes, however uneven their batches
// are: the sequence that each rank makes is recorded and compared.
#include <ATen/ATen.h>

#include <algorithm>
#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <chrono>
#include <string>
#include <vector>

#include "comm/collective_ring.h"
#include "comm/mpi_communicator.h"
#include "core/concat.h"
#include "core/hash.h"
#include "core/targets.h"
#include "model/adapter/bottleneck.h"
#include "support/tiny_model.h"
#include "train/evaluation.h"
#include "train/micro_batch_of.h"
#include "train/trainer.h"
#include "zero/initialise.h"

namespace temper {
namespace {

namespace data = boost::unit_test::data;

// Hands every collective on, and writes down what it was.
class RecordingCommunicator : public Communicator {
 public:
  explicit RecordingCommunicator(Communicator& ranks) : ranks_(ranks) {}

  int rank() const override { return ranks_.rank(); }
  int world_size() const override { return ranks_.world_size(); }

  const std::string& calls() const { return calls_; }

 private:
  void note(const char* name, const at::Tensor& tensor) {
    calls_ += concat(name, ' ', at::toString(tensor.scalar_type()), ' ', tensor.numel(), '\n');
  }

  Pending do_all_reduce(at::Tensor tensor, ReduceOp op) override {
    note("all_reduce", tensor);
    return ranks_.all_reduce(tensor, op);
  }
  Pending do_all_gather(const at::Tensor& shard, at::Tensor full) override {
    note("all_gather", full);
    return ranks_.all_gather(shard, full);
  }
  Pending do_gather(const at::Tensor& shard, at::Tensor full, int root) override {
    note("gather", shard);
    return ranks_.gather(shard, full, root);
  }
  Pending do_all_to_all(const at::Tensor& send, at::Tensor receive) override {
    note("all_to_all", send);
    return ranks_.all_to_all(send, receive);
  }
  Pending do_broadcast(at::Tensor tensor, int root) override {
    note("broadcast", tensor);
    return ranks_.broadcast(tensor, root);
  }
  void do_barrier() override {
    calls_ += "barrier\n";
    ranks_.barrier();
  }

  Communicator& ranks_;
  std::string calls_;
};

// Whether all ranks have the same text.
bool is_same_on_all(Communicator& ranks, const std::string& text) {
  const Digest own = sha256(text);
  const at::Tensor sent = at::empty({std::ssize(own)}, at::kByte);
  std::copy(own.begin(), own.end(), sent.mutable_data_ptr<uint8_t>());
  const at::Tensor all = at::empty({ranks.world_size() * std::ssize(own)}, at::kByte);
  ranks.all_gather(sent, all).wait();
  for (int rank = 0; rank < ranks.world_size(); ++rank) {
    if (!at::equal(all.narrow(0, rank * std::ssize(own), std::ssize(own)), sent)) return false;
  }
  return true;
}

// Rank 0 has the longest batch, the last rank one without a target.
std::vector<PackedBatch> uneven_batch(const ModelConfig& config, const Communicator& ranks,
                                      int64_t step) {
  std::vector<PackedBatch> batch;
  for (int64_t j = 0; j < 2; ++j) {
    batch.push_back(testing::tiny_batch(config, 7 * step + 3 * j + 5 * ranks.rank()));
  }
  if (ranks.rank() + 1 == ranks.world_size()) batch[1].targets.fill_(kNoTarget);
  return batch;
}

// Trains and evaluates on uneven batches, and compares what the ranks called.
void check_calls(Engine& engine, UnitStore& trained, RecordingCommunicator& ranks,
                 Communicator& world) {
  const ModelConfig& config = engine.decoder().config();
  Trainer trainer(engine, trained, ranks, Schedule({}, 10), {{.learning_rate = 0.01}, 1.0});
  RunState state;
  for (int64_t step = 0; step < 3; ++step) {
    trainer.train_step(uneven_batch(config, ranks, step), state);
  }
  // One micro-batch more than ranks: the last round leaves all ranks but one without a batch.
  const HoldOut holdout{"uneven", ranks.world_size() + 1, [&](int64_t index) {
                          return testing::to_micro_batch(testing::tiny_batch(config, index));
                        }};
  evaluate(engine, holdout, ranks, at::kCPU);

  BOOST_TEST(is_same_on_all(world, ranks.calls()));
  if (world.world_size() > 1) BOOST_TEST(ranks.calls().size() > 100U);
}

// The stages that the test cases go through, and then those of the fast reduction.
const auto kIsFast = data::make({false, false, false, false, true, true});

BOOST_DATA_TEST_CASE(all_ranks_make_the_same_calls, data::make({0, 1, 2, 3, 0, 1}) ^ kIsFast, stage,
                     is_fast) {
  MpiCommunicator world(MPI_COMM_WORLD);
  RecordingCommunicator ranks(world);
  Decoder decoder(testing::tiny_config(/*has_tied_head=*/true));
  UnitStore store(decoder.units(), ranks,
                  {{stage, is_fast ? Reduction::kFast : Reduction::kExact, true}});
  testing::fill_weights(store);
  Engine engine(decoder, store, Activations::kKept);
  check_calls(engine, store, ranks, world);
}

BOOST_DATA_TEST_CASE(all_ranks_make_the_same_calls_with_an_adapter,
                     data::make({0, 1, 2, 3, 0, 1}) ^ kIsFast, stage, is_fast) {
  const ZeroOptions zero{stage, is_fast ? Reduction::kFast : Reduction::kExact, true};
  MpiCommunicator world(MPI_COMM_WORLD);
  RecordingCommunicator ranks(world);
  Decoder decoder(testing::tiny_config(/*has_tied_head=*/true));
  UnitStore store(decoder.units(), ranks, {zero, StorePurpose::kFrozen});
  testing::fill_weights(store);
  const Adapter adapter = make_bottleneck({}, decoder.config());
  UnitStore adapter_store({adapter.unit}, ranks, {zero});
  BaseTensors base(decoder.units(), store);
  initialise(adapter, /*seed=*/3, base, ranks, adapter_store);
  Engine engine(decoder, store, Activations::kKept);
  engine.attach(adapter, adapter_store);
  check_calls(engine, adapter_store, ranks, world);
}

// Whether less than the work's time is idle after it. A busy machine may need several tries.
template <typename Work>
bool shows_life(const Work& work) {
  for (int i = 0; i < 20; ++i) {
    const auto began = std::chrono::steady_clock::now();
    work();
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - began;
    if (CollectiveRing::own().status().idle_seconds < taken.count()) return true;
  }
  return false;
}

// With many micro-batches a step and no collective among them, all ranks would seem to stall.
BOOST_AUTO_TEST_CASE(a_rank_shows_after_each_micro_batch_that_it_lives) {
  MpiCommunicator world(MPI_COMM_SELF);
  Decoder decoder(testing::tiny_config(/*has_tied_head=*/true));
  UnitStore store(decoder.units(), world, {{0, Reduction::kFast, true}});
  testing::fill_weights(store);
  Engine engine(decoder, store, Activations::kKept);
  const PackedBatch batch = testing::tiny_batch(decoder.config(), 1);
  BOOST_TEST(shows_life([&] { engine.loss(batch); }));
  BOOST_TEST(shows_life([&] { engine.forward_backward(batch, 0); }));
  store.finish_gradients();
}

BOOST_AUTO_TEST_CASE(another_sequence_is_found_out) {
  MpiCommunicator world(MPI_COMM_WORLD);
  const bool is_odd = world.rank() + 1 == world.world_size() && world.world_size() > 1;
  BOOST_TEST(is_same_on_all(world, is_odd ? "a\n" : "b\n") == (world.world_size() == 1));
}

}  // namespace
}  // namespace temper
