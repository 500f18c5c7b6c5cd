// SPDX-License-Identifier: Apache-2.0
// The promise: loss curve and final weights are the same bits on any number of ranks and threads,
// at every ZeRO stage, with prefetching and recomputation on or off; for full
// fine-tuning and every adapter.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <optional>
#include <vector>

#include "comm/mpi_communicator.h"
#include "model/adapter/method.h"
#include "support/tiny_model.h"
#include "train/trainer.h"
#include "zero/initialise.h"

namespace temper {

namespace {

namespace data = boost::unit_test::data;
using Kind = MethodOptions::Kind;

constexpr int kSteps = 6;
constexpr int kMicroBatches = 12;  // Per step: 1, 2, 3 and 4 ranks divide it.

struct Variant {
  int stage = 3;
  bool prefetches = true;
  Activations activations = Activations::kKept;
  at::ScalarType dtype = at::kFloat;
  int threads = 1;
  bool has_tied_head = true;
  MethodOptions method = {};

  ZeroOptions zero() const { return {stage, Reduction::kExact, prefetches}; }
};

struct Curve {
  std::vector<double> losses, norms;
  std::vector<at::Tensor> weights;  // [unit], whole
};

// Clipping binds at every step, and the rate changes at every step.
Curve run_steps(Engine& engine, UnitStore& trained, Communicator& ranks) {
  Trainer trainer(engine, trained, ranks, Schedule({.warmup_steps = 2}, kSteps),
                  {{.learning_rate = 0.01, .weight_decay = 0.1}, 0.5});
  Curve curve;
  RunState state;
  for (int step = 0; step < kSteps; ++step) {
    std::vector<PackedBatch> batch;
    for (int j = ranks.rank(); j < kMicroBatches; j += ranks.world_size()) {
      batch.push_back(testing::tiny_batch(engine.decoder().config(), step * kMicroBatches + j));
    }
    const StepResult result = trainer.train_step(batch, state);
    curve.losses.push_back(result.loss);
    curve.norms.push_back(result.grad_norm);
  }
  for (int unit = 0; unit < trained.num_units(); ++unit) {
    curve.weights.push_back(
        trained.gather(unit).narrow(0, 0, trained.state(unit).unit.num_elements()).clone());
    trained.release(unit);
  }
  return curve;
}

struct Named {
  const char* name;
  MethodOptions method;
  bool has_tied_head = true;
};
std::ostream& operator<<(std::ostream& out, const Named& named) { return out << named.name; }

MethodOptions lora(const LoraOptions& options, Kind kind = Kind::kLora) {
  MethodOptions method;
  method.kind = kind;
  method.lora = options;
  return method;
}

std::vector<Named> adapters() {
  // The upper two of three blocks: the lowest one has no backward pass.
  const LoraOptions upper{.rank = 5,
                          .dropout = 0.2,
                          .targets = {"q_proj", "v_proj", "o_proj", "up_proj", "down_proj"},
                          .layers = {1, 2},
                          .init = LoraOptions::Init::kGaussian};
  LoraOptions dora = upper;
  dora.uses_dora = true;
  dora.saved = {.modules = {"norm"}, .tokens = {3, 0, 17}};
  LoraOptions pissa = upper;
  pissa.init = LoraOptions::Init::kPrincipal;
  pissa.saved = {.modules = {"embed_tokens"}};
  MethodOptions prefix, prompt;
  prefix.kind = Kind::kPrefix;
  prefix.prefix = {.num_tokens = 5};
  MethodOptions projected = prefix;
  projected.prefix.projection = 11;
  prompt.kind = Kind::kPrompt;
  prompt.prompt = {.num_tokens = 5, .init = PromptOptions::Init::kNormal};
  return {{"lora", lora(upper)},
          {"qlora", lora(upper, Kind::kQlora)},
          {"dora", lora(dora)},
          {"qdora", lora(dora, Kind::kQlora), false},
          {"pissa", lora(pissa)},
          {"prefix", prefix},
          {"projected prefix", projected},
          {"prompt", prompt}};
}

// Attaches the adapter of the method, if it has one, and trains.
Curve train(Engine& engine, UnitWeights& weights, Communicator& ranks, const Variant& variant) {
  const std::optional<Adapter> adapter = make_adapter(variant.method, engine.decoder().config());
  if (!adapter) return run_steps(engine, dynamic_cast<UnitStore&>(weights), ranks);
  UnitStore adapter_store(adapter->units(), ranks, {.zero = variant.zero()});
  BaseTensors base(engine.decoder().units(), weights);
  initialise(*adapter, /*seed=*/3, base, ranks, adapter_store);
  engine.attach(*adapter, adapter_store);
  return run_steps(engine, adapter_store, ranks);
}

Curve train_quantised(Decoder& decoder, Communicator& ranks, const Variant& variant) {
  QuantisedUnits units(decoder.units(), ranks,
                       {variant.zero(), StorePurpose::kFrozen, variant.dtype}, {});
  testing::fill_weights(units);
  Engine engine(decoder, units, variant.activations);
  return train(engine, units, ranks, variant);
}

Curve train(Communicator& ranks, const Variant& variant) {
  at::set_num_threads(variant.threads);
  Decoder decoder(testing::tiny_config(variant.has_tied_head));
  Curve curve;
  if (variant.method.kind == Kind::kQlora) {
    curve = train_quantised(decoder, ranks, variant);
  } else {
    const bool is_full = variant.method.kind == Kind::kFull;
    UnitStore store(
        decoder.units(), ranks,
        {variant.zero(), is_full ? StorePurpose::kTraining : StorePurpose::kFrozen, variant.dtype});
    testing::fill_weights(store);
    Engine engine(decoder, store, variant.activations);
    curve = train(engine, store, ranks, variant);
  }
  at::set_num_threads(1);
  return curve;
}

void check_equal(const Curve& a, const Curve& b) {
  BOOST_TEST(a.losses == b.losses, boost::test_tools::per_element());
  BOOST_TEST(a.norms == b.norms, boost::test_tools::per_element());
  for (size_t unit = 0; unit < a.weights.size(); ++unit) {
    BOOST_TEST(at::equal(a.weights[unit], b.weights[unit]), "weights of unit " << unit);
  }
}

struct RanksFixture {
  MpiCommunicator world{MPI_COMM_WORLD};
  MpiCommunicator self{MPI_COMM_SELF};
};

BOOST_FIXTURE_TEST_SUITE(invariance, RanksFixture)

BOOST_DATA_TEST_CASE_F(RanksFixture, every_stage_gives_the_bits_of_one_rank,
                       data::make({0, 1, 2, 3}) * data::make({at::kFloat, at::kBFloat16}) *
                           data::make({true, false}),
                       stage, dtype, tied) {
  Variant variant{.stage = stage, .dtype = dtype, .has_tied_head = tied};
  Variant alone = variant;
  alone.stage = 0;
  check_equal(train(world, variant), train(self, alone));
}

BOOST_DATA_TEST_CASE_F(RanksFixture, adapters_at_every_stage_have_the_bits_of_one_rank,
                       data::make({0, 1, 2, 3}) * data::make({at::kFloat, at::kBFloat16}) *
                           data::make(adapters()),
                       stage, dtype, adapter) {
  Variant variant{.stage = stage,
                  .dtype = dtype,
                  .has_tied_head = adapter.has_tied_head,
                  .method = adapter.method};
  Variant alone = variant;
  alone.stage = 0;
  const Curve curve = train(world, variant);
  check_equal(curve, train(self, alone));
  BOOST_TEST(curve.losses.front() != curve.losses.back());
}

BOOST_DATA_TEST_CASE_F(RanksFixture, adapters_need_no_certain_prefetching_recomputation_or_threads,
                       data::make(adapters()), adapter) {
  const MethodOptions& method = adapter.method;
  const Curve expected = train(self, {.method = method});
  check_equal(train(world, {.prefetches = false, .method = method}), expected);
  check_equal(train(world, {.activations = Activations::kRecomputed, .method = method}), expected);
  check_equal(train(world, {.threads = 2, .method = method}), expected);
}

BOOST_AUTO_TEST_CASE(prefetching_does_not_change_the_bits) {
  check_equal(train(world, {.prefetches = false}), train(self, {.prefetches = true}));
}

BOOST_AUTO_TEST_CASE(recomputation_does_not_change_the_bits) {
  check_equal(train(world, {.activations = Activations::kRecomputed}),
              train(self, {.activations = Activations::kKept}));
}

BOOST_DATA_TEST_CASE_F(RanksFixture, two_threads_give_the_bits_of_one,
                       data::make({at::kFloat, at::kBFloat16}), dtype) {
  check_equal(train(world, {.dtype = dtype, .threads = 2}), train(self, {.dtype = dtype}));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper
