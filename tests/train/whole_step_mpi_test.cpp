// SPDX-License-Identifier: Apache-2.0
// Steps of the trainer beside the same steps written down from the papers: all micro-batches of all
// ranks on one whole decoder, the mean over their targets, one norm, AdamW in double precision.
#include <ATen/ATen.h>

#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "comm/agree.h"
#include "comm/mpi_communicator.h"
#include "core/targets.h"
#include "io/says.h"
#include "model/whole_decoder.h"
#include "support/tiny_model.h"
#include "train/evaluation.h"
#include "train/forwarding_communicator.h"
#include "train/micro_batch_of.h"
#include "train/trainer.h"

namespace temper {
namespace {

namespace data = boost::unit_test::data;

constexpr int64_t kSteps = 5;
constexpr int64_t kStepWithoutTargets = 2;
// A big epsilon, so that the update is a smooth function of the gradient.
constexpr AdamWOptions kAdamW{.learning_rate = 0.02, .epsilon = 0.01, .weight_decay = 0.2};
constexpr ScheduleOptions kSchedule{.shape = ScheduleOptions::Shape::kLinear};

struct Step {
  double loss = 0.0;
  double norm = 0.0;
  int64_t num_targets = 0;
};

// The reference; it knows no rank.
class WholeTrainer {
 public:
  WholeTrainer(const ModelConfig& config, double max_norm)
      : whole_(config, at::kFloat), max_norm_(max_norm) {}

  void take_weights(UnitStore& store) {
    for (int unit = 0; unit < store.num_units(); ++unit) {
      const at::Tensor flat = store.gather(unit);
      for (const TensorSlot& slot : store.state(unit).unit.slots()) {
        const at::Tensor part = flat.narrow(0, slot.offset, slot.num_elements()).view(slot.shape);
        parameters_[slot.name] = {part.to(at::kDouble), at::zeros(slot.shape, at::kDouble),
                                  at::zeros(slot.shape, at::kDouble)};
      }
      store.release(unit);
    }
  }

  const at::Tensor& weight(const std::string& name) const { return parameters_.at(name).weight; }

  Step step(const std::vector<PackedBatch>& batch, double rate) {
    Step step;
    std::map<std::string, at::Tensor> gradients;
    for (auto& [name, parameter] : parameters_) {
      whole_.weight(name).copy_(parameter.weight);
      gradients[name] = at::zeros_like(parameter.weight);
    }
    for (const PackedBatch& micro_batch : batch) {
      step.loss += whole_.forward_backward(micro_batch).loss_sum;
      step.num_targets += micro_batch.targets.ne(kNoTarget).sum().item<int64_t>();
      for (auto& [name, sum] : gradients) sum.add_(whole_.gradient(name));
    }
    if (step.num_targets == 0) return step;
    step.loss /= static_cast<double>(step.num_targets);
    double squares = 0.0;
    for (auto& [name, sum] : gradients) {
      sum.div_(static_cast<double>(step.num_targets));
      squares += sum.square().sum().item<double>();
    }
    step.norm = std::sqrt(squares);
    const double factor = step.norm > max_norm_ ? max_norm_ / step.norm : 1.0;
    ++num_updates_;
    for (auto& [name, sum] : gradients) update(parameters_.at(name), sum * factor, rate);
    return step;
  }

 private:
  struct Parameter {
    at::Tensor weight, first_moment, second_moment;
  };

  void update(Parameter& parameter, const at::Tensor& gradient, double rate) const {
    const double decay = parameter.weight.dim() == 2 ? kAdamW.weight_decay : 0.0;
    auto& [weight, first, second] = parameter;
    first = kAdamW.beta1 * first + (1.0 - kAdamW.beta1) * gradient;
    second = kAdamW.beta2 * second + (1.0 - kAdamW.beta2) * gradient.square();
    const at::Tensor mean = first / (1.0 - std::pow(kAdamW.beta1, num_updates_));
    const at::Tensor variance = second / (1.0 - std::pow(kAdamW.beta2, num_updates_));
    weight = weight * (1.0 - rate * decay) - rate * mean / (variance.sqrt() + kAdamW.epsilon);
  }

  testing::WholeDecoder whole_;
  double max_norm_;
  int num_updates_ = 0;
  std::map<std::string, Parameter> parameters_;
};

// Micro-batch `j` of a step. The second of every five has no target; none in step
// kStepWithoutTargets has one.
PackedBatch micro_batch_of(const ModelConfig& config, int64_t step, int64_t j) {
  PackedBatch batch = testing::tiny_batch(config, 2 + 100 * step + j);
  if (step == kStepWithoutTargets) batch.targets.fill_(kNoTarget);
  return batch;
}

struct WorldFixture {
  MpiCommunicator world{MPI_COMM_WORLD};
};

// Tolerances: fp32 against double precision, over five steps.
void check_weights(UnitStore& store, const WholeTrainer& reference) {
  for (int unit = 0; unit < store.num_units(); ++unit) {
    const at::Tensor flat = store.gather(unit);
    for (const TensorSlot& slot : store.state(unit).unit.slots()) {
      const at::Tensor found = flat.narrow(0, slot.offset, slot.num_elements()).view(slot.shape);
      const double error =
          (found.to(at::kDouble) - reference.weight(slot.name)).abs().max().item<double>();
      BOOST_TEST(error < 2e-6, slot.name << " is off by " << error);
    }
    store.release(unit);
  }
}

BOOST_DATA_TEST_CASE_F(WorldFixture, steps_are_those_of_the_formulas,
                       data::make({1, 2, 3}) * data::make({0.3, 1000.0}) *
                           data::make({true, false}),
                       accumulation, max_norm, tied) {
  Decoder decoder(testing::tiny_config(tied));
  UnitStore store(in_form(decoder.units()), world, {{3, Reduction::kExact, true}});
  testing::fill_weights(store);
  Engine engine(decoder, store, Activations::kKept);
  Trainer trainer(engine, store, world, Schedule(kSchedule, kSteps), {kAdamW, max_norm});
  WholeTrainer reference(decoder.config(), max_norm);
  reference.take_weights(store);
  // Where there is more than one round, the last ones have none in the last.
  const int64_t num_micro_batches =
      int64_t{accumulation} * world.world_size() - (accumulation > 1 ? world.world_size() / 2 : 0);

  RunState state;
  int64_t num_target_tokens = 0;
  for (int64_t step = 0; step < kSteps; ++step) {
    std::vector<PackedBatch> all, own;
    for (int64_t j = 0; j < num_micro_batches; ++j) {
      all.push_back(micro_batch_of(decoder.config(), step, j));
      if (j % world.world_size() == world.rank()) own.push_back(all.back());
    }
    const StepResult found = trainer.train_step(own, num_micro_batches, state);
    const double rate = kAdamW.learning_rate * static_cast<double>(kSteps - step) / kSteps;
    const Step expected = reference.step(all, rate);
    num_target_tokens += expected.num_targets;
    BOOST_TEST(found.updated == (expected.num_targets > 0));
    BOOST_TEST(found.num_targets == expected.num_targets);
    BOOST_TEST(found.loss == expected.loss, boost::test_tools::tolerance(1e-5));
    BOOST_TEST(found.grad_norm == expected.norm, boost::test_tools::tolerance(1e-4));
    BOOST_TEST(found.learning_rate == rate, boost::test_tools::tolerance(1e-12));
    if (found.updated) BOOST_TEST((found.grad_norm > max_norm) == (max_norm < 1.0));
  }
  BOOST_TEST(state.step == kSteps);
  BOOST_TEST(state.num_updates == kSteps - 1);
  BOOST_TEST(state.num_skipped == 1);
  BOOST_TEST(state.next_micro_batch == kSteps * num_micro_batches);
  BOOST_TEST(state.num_target_tokens == num_target_tokens);
  check_weights(store, reference);
}

// Notes at each exchange of gradients whether the embedding has a buffer for its own.
class WatchingCommunicator : public testing::ForwardingCommunicator {
 public:
  WatchingCommunicator(Communicator& ranks, Decoder& decoder)
      : ForwardingCommunicator(ranks), embedding_(decoder.buffers(0)) {}

  const std::vector<bool>& has_gradient() const { return has_gradient_; }

 private:
  void note(const char* name, const at::Tensor& /*tensor*/) override {
    if (name != std::string_view("all_to_all")) return;
    has_gradient_.push_back(embedding_.gradients.defined());
  }

  const UnitBuffers& embedding_;
  std::vector<bool> has_gradient_;
};

// Without a tied head nothing needs the embedding's gradient while blocks go backward.
BOOST_DATA_TEST_CASE(an_untied_model_has_one_large_gradient_at_a_time,
                     data::make({1, 2, 3}) * data::make({false, true}), stage, is_tied) {
  MpiCommunicator world{MPI_COMM_WORLD};
  if (world.world_size() == 1) return;  // Nothing is exchanged.
  Decoder decoder(testing::tiny_config(is_tied));
  WatchingCommunicator ranks(world, decoder);
  UnitStore store(in_form(decoder.units()), ranks, {{stage, Reduction::kExact, true}});
  testing::fill_weights(store);
  Engine engine(decoder, store, Activations::kKept);
  engine.forward_backward(testing::tiny_batch(decoder.config(), 2), 0);
  store.finish_gradients();
  // The head's, each block's, the embedding's.
  BOOST_REQUIRE(std::ssize(ranks.has_gradient()) == decoder.num_units());
  for (int unit = 0; unit < decoder.num_units() - 1; ++unit) {
    BOOST_TEST(ranks.has_gradient()[static_cast<size_t>(unit)] == is_tied);
  }
}

constexpr int64_t kNumDocuments = 3;  // Each has pieces in several micro-batches.

// Of seven micro-batches, which no two, three or four ranks share evenly.
EvaluationResult evaluate_on(Communicator& ranks) {
  Decoder decoder(testing::tiny_config(/*has_tied_head=*/true));
  UnitStore store(in_form(decoder.units()), ranks, {{3, Reduction::kExact, true}});
  testing::fill_weights(store);
  Engine engine(decoder, store, Activations::kKept);
  const auto micro_batch = [&](int64_t index) {
    MicroBatch batch = testing::to_micro_batch(testing::tiny_batch(decoder.config(), index));
    for (size_t piece = 1; piece < batch.document_begins.size(); ++piece) {
      batch.documents.push_back((index + static_cast<int64_t>(piece)) % kNumDocuments);
    }
    return batch;
  };
  const std::vector<int64_t> bytes(static_cast<size_t>(decoder.config().vocab_size), 3);
  return *evaluate(engine,
                   {.name = "uneven",
                    .num_micro_batches = 7,
                    .micro_batch = micro_batch,
                    .num_documents = kNumDocuments,
                    .token_bytes = std::make_shared<const std::vector<int64_t>>(bytes)},
                   ranks, at::kCPU);
}

BOOST_FIXTURE_TEST_CASE(an_evaluation_has_the_bits_of_one_rank, WorldFixture) {
  MpiCommunicator self{MPI_COMM_SELF};
  const EvaluationResult shared = evaluate_on(world), alone = evaluate_on(self);
  BOOST_TEST(shared.loss == alone.loss);
  BOOST_TEST(shared.num_targets == alone.num_targets);
  BOOST_TEST(shared.documents->num_documents == kNumDocuments);
  BOOST_TEST(*shared.documents->standard_error == *alone.documents->standard_error);
  BOOST_TEST(*shared.documents->bits_per_byte == *alone.documents->bits_per_byte);
  BOOST_TEST(*shared.documents->bits_per_byte_error == *alone.documents->bits_per_byte_error);
  const double bits = shared.loss / std::log(2.0) / 3.0;  // Each token has three bytes.
  BOOST_TEST(*shared.documents->bits_per_byte == bits, boost::test_tools::tolerance(1e-8));
}

// One rank alone is told to stop, in the third round: none may go on without the others.
BOOST_FIXTURE_TEST_CASE(an_evaluation_is_cut_off_between_micro_batches, WorldFixture) {
  Decoder decoder(testing::tiny_config(/*has_tied_head=*/true));
  UnitStore store(in_form(decoder.units()), world, {{3, Reduction::kExact, true}});
  testing::fill_weights(store);
  Engine engine(decoder, store, Activations::kKept);
  int num_read = 0, num_asked = 0;
  const auto micro_batch = [&](int64_t index) {
    ++num_read;
    return testing::to_micro_batch(testing::tiny_batch(decoder.config(), index));
  };
  const auto is_stopped = [&] {
    return any_of(world, ++num_asked == 3 && world.rank() + 1 == world.world_size());
  };
  BOOST_TEST(!evaluate(engine, {"long", 1000, micro_batch}, world, at::kCPU, is_stopped));
  BOOST_TEST(num_read == 2);
}

BOOST_FIXTURE_TEST_CASE(a_hold_out_without_a_target_is_named, WorldFixture) {
  Decoder decoder(testing::tiny_config(/*has_tied_head=*/true));
  UnitStore store(in_form(decoder.units()), world, {{3, Reduction::kExact, true}});
  testing::fill_weights(store);
  Engine engine(decoder, store, Activations::kKept);
  const HoldOut holdout{"short", 5, [](int64_t) -> MicroBatch {
                          return {{1}, {0}, {kNoTarget}, {0, 1}, 0};
                        }};
  BOOST_CHECK_EXCEPTION(evaluate(engine, holdout, world, at::kCPU), DataError,
                        says("hold-out short has no target\n  try: give it documents of at least"));
}

}  // namespace
}  // namespace temper
