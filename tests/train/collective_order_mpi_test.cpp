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
#include "train/forwarding_communicator.h"
#include "train/generation.h"
#include "train/micro_batch_of.h"
#include "train/trainer.h"
#include "zero/initialise.h"

namespace temper {
namespace {

namespace data = boost::unit_test::data;

// Writes down what every collective was.
class RecordingCommunicator : public testing::ForwardingCommunicator {
 public:
  using ForwardingCommunicator::ForwardingCommunicator;

  const std::string& calls() const { return calls_; }

 private:
  void note(const char* name, const at::Tensor& tensor) override {
    calls_ += name;
    if (tensor.defined())
      calls_ += concat(' ', at::toString(tensor.scalar_type()), ' ', tensor.numel());
    calls_ += '\n';
  }

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

// Rank 0 has a micro-batch more than the others, the last rank one without a target.
std::vector<PackedBatch> uneven_batch(const ModelConfig& config, const Communicator& ranks,
                                      int64_t step) {
  std::vector<PackedBatch> batch;
  for (int64_t j = 0; j < (ranks.rank() == 0 ? 2 : 1); ++j) {
    batch.push_back(testing::tiny_batch(config, 7 * step + 3 * j + 5 * ranks.rank()));
  }
  if (ranks.rank() + 1 == ranks.world_size()) batch.back().targets.fill_(kNoTarget);
  return batch;
}

// Trains and evaluates on uneven batches, and compares what the ranks called.
void check_calls(Engine& engine, UnitStore& store, RecordingCommunicator& ranks,
                 Communicator& world) {
  const ModelConfig& config = engine.decoder().config();
  Trainer trainer(engine, store, ranks, Schedule({}, 10), {{.learning_rate = 0.01}, 1.0});
  RunState state;
  for (int64_t step = 0; step < 3; ++step) {
    trainer.train_step(uneven_batch(config, ranks, step), ranks.world_size() + 1, state);
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
  UnitStore store(in_form(decoder.units()), ranks,
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
  const Adapter adapter = make_bottleneck({}, decoder.config());
  UnitStore store(stored_units(decoder.units(), adapter.layouts(), {}), ranks, {zero});
  testing::fill_weights(store, decoder.num_units());
  initialise(adapter, /*seed=*/3, ranks, store);
  Engine engine(decoder, store, Activations::kKept, &adapter);
  check_calls(engine, store, ranks, world);
  if (is_fast || world.world_size() == 1) return;
  // Each layer's gradients are exchanged beside the backward pass of the layer before it: in each
  // of two micro-batches of three steps.
  const std::string exchange = "all_to_all";
  int64_t num_exchanges = 0;
  for (size_t at = ranks.calls().find(exchange); at != std::string::npos;
       at = ranks.calls().find(exchange, at + 1)) {
    ++num_exchanges;
  }
  BOOST_TEST(num_exchanges == 3 * 2 * decoder.config().num_layers);
}

using Answers = std::vector<std::vector<int64_t>>;

// Sampled answers to prompts of uneven lengths, more than there are places for at first.
Answers generate_some(Engine& engine, Communicator& ranks) {
  std::vector<GenerationRequest> requests(11);
  for (size_t i = 0; i < requests.size(); ++i) {
    for (size_t k = 0; k <= 5 * i % 7; ++k) {
      requests[i].prompt.push_back(static_cast<int64_t>((31 * i + 17 * k) % 211));
    }
    requests[i].options = {.max_new_tokens = 12, .sampling = {.temperature = 3.0, .seed = 5}};
    requests[i].number = i;
  }
  Answers answers(requests.size());
  generate(
      engine, ranks, /*at_once=*/2,
      {.next = all_at_once(std::move(requests)),
       .take = [&](size_t request, const Answer& answer) { answers[request] = answer.tokens; }});
  return answers;
}

BOOST_DATA_TEST_CASE(answers_are_the_same_on_any_number_of_ranks, data::make({0, 1, 2, 3}), stage) {
  MpiCommunicator world(MPI_COMM_WORLD), self(MPI_COMM_SELF);
  Answers answers[2];
  for (const bool is_alone : {false, true}) {
    RecordingCommunicator ranks(is_alone ? self : world);
    Decoder decoder(testing::tiny_config(/*has_tied_head=*/true));
    UnitStore store(in_form(decoder.units(), {.is_trained = false}), ranks,
                    {{stage, Reduction::kExact, true}});
    testing::fill_weights(store);
    Engine engine(decoder, store, Activations::kKept);
    answers[is_alone ? 1 : 0] = generate_some(engine, ranks);
    if (!is_alone) BOOST_TEST(is_same_on_all(world, ranks.calls()));
  }
  BOOST_TEST(answers[0] == answers[1]);
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
  UnitStore store(in_form(decoder.units()), world, {{0, Reduction::kFast, true}});
  testing::fill_weights(store);
  Engine engine(decoder, store, Activations::kKept);
  const PackedBatch batch = testing::tiny_batch(decoder.config(), 1);
  BOOST_TEST(shows_life([&] { engine.scores(batch); }));
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
