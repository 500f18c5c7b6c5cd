// SPDX-License-Identifier: Apache-2.0
// Full fine-tuning of a part of the model: the bits of one rank, the gradients of the whole, and no
// more work than that part takes.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/record_function.h>

#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "train/batch.h"
#include "train/invariant_run.h"
#include "train/matmul_limit.h"

namespace temper {
namespace {

namespace data = boost::unit_test::data;
using testing::alone;
using testing::check_other_ways;
using testing::check_stage;
using testing::RanksFixture;
using testing::Variant;

struct Named {
  const char* name;
  ParameterOptions parameters;
  bool has_tied_head = true;
};
std::ostream& operator<<(std::ostream& out, const Named& named) { return out << named.name; }

// Of three blocks.
std::vector<Named> choices() {
  const auto only = [](const std::vector<std::string>& patterns) {
    return ParameterOptions{{.only = patterns}, {}, 0.01};
  };
  const auto freeze = [](const std::vector<std::string>& patterns) {
    return ParameterOptions{{.freeze = patterns}, {}, 0.01};
  };
  ParameterOptions groups = freeze({"k_proj"});
  groups.groups = {{.match = {"norms"}, .learning_rate = 0.03, .weight_decay = 0.5},
                   {.match = {"layers.1"}, .learning_rate_ratio = 0.25}};
  return {{"upper blocks", only({"layers.1-2"})},
          {"norms", only({"norms"})},
          {"queries and values", only({"q_proj", "v_proj"})},
          {"all but one matrix", freeze({"layers.1.gate_proj"}), false},
          {"embedding alone", only({"embedding"}), false},
          {"head alone", only({"head"}), false},
          {"tied matrix alone", only({"embedding", "head"})},
          {"no embedding", freeze({"embedding", "layers.0"}), false},
          {"groups", groups}};
}

constexpr int kSteps = 2;  // The second one has the first update in its loss.

Variant variant_of(const Named& choice, at::ScalarType dtype) {
  return {.dtype = dtype,
          .has_tied_head = choice.has_tied_head,
          .num_steps = kSteps,
          .parameters = choice.parameters};
}

// A decoder of which a part is trained, with weights that depend on their names alone.
struct Model {
  Model(const ParameterOptions& parameters, bool has_tied_head, Communicator& ranks,
        at::ScalarType dtype = at::kFloat)
      : config(testing::tiny_config(has_tied_head)),
        decoder(config, trained_parameters(parameters, config).units),
        store(in_form(decoder.units(), {.dtype = dtype}), ranks, {}),
        engine(decoder, store, Activations::kKept) {
    for (int unit = 0; unit < store.num_units(); ++unit) {
      for (const TensorSlot& slot : store.state(unit).unit.slots()) {
        const size_t seed = std::hash<std::string>()(slot.name);
        const auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
        const at::Tensor values = at::randn({slot.num_elements()}, generator).mul_(0.1);
        store.state(unit)
            .loaded_weights()
            .narrow(0, slot.offset, slot.num_elements())
            .copy_(slot.decays ? values : values.add(1.0));
      }
      store.publish(unit);
    }
  }

  ModelConfig config;
  Decoder decoder;
  UnitStore store;
  Engine engine;
};

BOOST_FIXTURE_TEST_SUITE(frozen, RanksFixture)

BOOST_DATA_TEST_CASE_F(RanksFixture, every_stage_gives_the_bits_of_one_rank,
                       data::make({0, 1, 2, 3}) * data::make({at::kFloat, at::kBFloat16}) *
                           data::make(choices()),
                       stage, dtype, choice) {
  Variant variant = variant_of(choice, dtype);
  variant.stage = stage;
  check_stage(world, self, choice.name, variant);
}

BOOST_DATA_TEST_CASE_F(RanksFixture, prefetching_recomputation_and_threads_do_not_matter,
                       data::make(choices()), choice) {
  const Variant variant = variant_of(choice, at::kFloat);
  check_other_ways(world, variant, alone(self, choice.name, variant));
}

// Of a whole model, by name.
std::map<std::string, at::Tensor> gradients(Model& model) {
  model.engine.forward_backward(testing::tiny_batch(model.config, 2), 0);
  model.store.finish_gradients();
  std::map<std::string, at::Tensor> found;
  for (const int unit : model.store.trained()) {
    for (const TensorSlot& slot : model.store.state(unit).unit.slots()) {
      found[slot.name] =
          model.store.kept_gradient(unit).narrow(0, slot.offset, slot.num_elements()).clone();
    }
  }
  return found;
}

BOOST_DATA_TEST_CASE_F(RanksFixture, the_gradients_are_those_of_the_whole_model,
                       data::make(choices()), choice) {
  Model whole({}, choice.has_tied_head, self);
  const auto expected = gradients(whole);
  Model part(choice.parameters, choice.has_tied_head, self);
  const auto found = gradients(part);
  BOOST_TEST(found.size() < expected.size());
  for (const auto& [name, gradient] : found) {
    const at::Tensor& other = expected.at(name);
    BOOST_TEST(at::allclose(gradient, other, 1e-4, 1e-5 * other.abs().max().item<double>()), name);
    BOOST_TEST(other.abs().max().item<double>() > 0.0, name);
  }
}

thread_local double flop = 0.0;

std::unique_ptr<at::ObserverContext> count_product(const at::RecordFunction& operation) {
  if (std::string_view(operation.name()) != "temper::product") return nullptr;
  const at::Tensor out = operation.inputs()[0].toTensor(), a = operation.inputs()[1].toTensor();
  flop += 2.0 * static_cast<double>(out.numel() * a.size(1));
  return nullptr;
}

PackedBatch counted_batch(const ModelConfig& config) { return testing::tiny_batch(config, 2); }

// Counts what a micro-batch takes; returns what it takes by `linear_flop`.
double run_counted(const ParameterOptions& parameters, bool has_tied_head, Communicator& self) {
  Model model(parameters, has_tied_head, self, at::kBFloat16);
  const PackedBatch batch = counted_batch(model.config);
  const auto handle =
      at::addThreadLocalCallback(at::RecordFunctionCallback(&count_product).needsInputs(true));
  flop = 0.0;
  model.engine.forward_backward(batch, 0);
  at::removeCallback(handle);
  return linear_flop(model.decoder, /*has_adapter=*/false, batch.tokens.numel(),
                     count_targets(batch));
}

BOOST_DATA_TEST_CASE_F(RanksFixture, no_more_is_computed_than_a_part_takes, data::make(choices()),
                       choice) {
  const double expected = run_counted(choice.parameters, choice.has_tied_head, self);
  BOOST_TEST(flop == expected);
  BOOST_TEST(expected < run_counted({}, choice.has_tied_head, self));
}

// Each matrix has a product forward, and backward one for the input and one for the matrix.
BOOST_FIXTURE_TEST_CASE(the_backward_pass_ends_at_the_lowest_block_that_is_trained, RanksFixture) {
  const auto counted = [&](const std::vector<std::string>& only) {
    run_counted({{.only = only}, {}, 1.0}, /*has_tied_head=*/false, self);
    return flop;
  };
  const ModelConfig model = testing::tiny_config(false);
  const PackedBatch batch = counted_batch(model);
  const auto tokens = static_cast<double>(batch.tokens.numel());
  const double output = 2.0 * tokens * 48 * 48, block = 2.0 * tokens * 48 * (3 * 48 + 3 * 112);
  const double head = 2.0 * static_cast<double>(count_targets(batch)) * 48 * 211;
  const double forward = 3 * block + head;
  BOOST_TEST(counted({}) == 3 * forward);
  BOOST_TEST(counted({"model.norm"}) == forward + head);
  BOOST_TEST(counted({"layers.2"}) == forward + head + 2 * block);
  BOOST_TEST(counted({"layers.1"}) == forward + head + 3 * block);
  BOOST_TEST(counted({"layers.1.self_attn.o_proj"}) == forward + head + 2 * block + output);
  BOOST_TEST(counted({"embedding"}) == forward + head + 3 * block);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper
