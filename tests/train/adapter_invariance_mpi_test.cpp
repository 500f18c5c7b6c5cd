// SPDX-License-Identifier: Apache-2.0
// The same promise for every adapter: the bits of one rank at every stage, and with prefetching,
// recomputation and threads as they may be.
#include <ATen/record_function.h>

#include <algorithm>
#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <memory>
#include <string>
#include <string_view>

#include "train/forwarding_communicator.h"
#include "train/invariant_run.h"
#include "zero/base_tensors.h"

namespace temper {
namespace {

namespace data = boost::unit_test::data;
using Kind = MethodOptions::Kind;
using testing::alone;
using testing::check_other_ways;
using testing::check_stage;
using testing::RanksFixture;
using testing::Variant;

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
  MethodOptions prefix, prompt, bottleneck;
  prefix.kind = Kind::kPrefix;
  prefix.prefix = {.num_tokens = 5};
  MethodOptions projected = prefix;
  projected.prefix.projection = 11;
  bottleneck.kind = Kind::kBottleneck;
  bottleneck.bottleneck = {.reduction_factor = 9.0};
  prompt.kind = Kind::kPrompt;
  prompt.prompt = {.num_tokens = 5, .init = PromptOptions::Init::kNormal};
  return {{"lora", lora(upper)},
          {"qlora", lora(upper, Kind::kQlora)},
          {"dora", lora(dora)},
          {"qdora", lora(dora, Kind::kQlora), false},
          {"pissa", lora(pissa)},
          {"prefix", prefix},
          {"projected prefix", projected},
          {"prompt", prompt},
          {"bottleneck", bottleneck}};
}

constexpr int kSteps = 2;  // The second one has the first update in its loss.

Variant variant_of(const Named& adapter, at::ScalarType dtype) {
  return {.dtype = dtype,
          .has_tied_head = adapter.has_tied_head,
          .method = adapter.method,
          .num_steps = kSteps};
}

BOOST_FIXTURE_TEST_SUITE(adapter_invariance, RanksFixture)

BOOST_DATA_TEST_CASE_F(RanksFixture, every_stage_gives_the_bits_of_one_rank,
                       data::make({0, 1, 2, 3}) * data::make({at::kFloat, at::kBFloat16}) *
                           data::make(adapters()),
                       stage, dtype, adapter) {
  Variant variant = variant_of(adapter, dtype);
  variant.stage = stage;
  check_stage(world, self, adapter.name, variant);
}

BOOST_DATA_TEST_CASE_F(RanksFixture, prefetching_recomputation_and_threads_do_not_matter,
                       data::make(adapters()), adapter) {
  const Variant variant = variant_of(adapter, at::kFloat);
  check_other_ways(world, variant, alone(self, adapter.name, variant));
}

// Full training, and methods on a model with experts in units of their own.
std::vector<Named> ways_with_experts() {
  MethodOptions full, experts;
  experts.kind = MethodOptions::Kind::kLora;
  experts.lora = {.rank = 3, .alpha = 6.0, .targets = {"q_proj", "gate_proj", "down_proj"}};
  MethodOptions packed = experts;
  packed.kind = MethodOptions::Kind::kQlora;
  std::vector<Named> ways{{"full", full}, {"lora", experts}, {"qlora", packed}};
  for (const Named& adapter : adapters()) {
    const std::string name = adapter.name;
    if (name == "bottleneck" || name == "prefix" || name == "prompt") ways.push_back(adapter);
  }
  return ways;
}

BOOST_DATA_TEST_CASE_F(RanksFixture, experts_give_the_bits_of_one_rank,
                       data::make(ways_with_experts()), way) {
  const std::string name = std::string("experts, ") + way.name;
  Variant variant = variant_of(way, at::kFloat);
  variant.has_experts = true;
  for (const int stage : {0, 1, 2, 3}) {
    variant.stage = stage;
    check_stage(world, self, name, variant);
  }
  check_other_ways(world, variant, alone(self, name, variant));
  variant.dtype = at::kBFloat16;
  check_stage(world, self, name, variant);
}

// Of one rank, in their order: g for a gather, d for a decomposition.
thread_local std::string events;

struct LoggedRanks : testing::ForwardingCommunicator {
  using ForwardingCommunicator::ForwardingCommunicator;
  void note(const char* name, const at::Tensor& /*tensor*/) override {
    if (std::string_view(name) == "all_gather") events += 'g';
  }
};

std::unique_ptr<at::ObserverContext> log_decomposition(const at::RecordFunction& operation) {
  if (std::string_view(operation.name()) == "aten::linalg_svd") events += 'd';
  return nullptr;
}

// At stage 3 a rank that decomposes before all have gathered lets all others wait.
BOOST_FIXTURE_TEST_CASE(ranks_decompose_at_once_after_all_is_gathered, RanksFixture) {
  events.clear();
  Decoder decoder(testing::tiny_config(true));
  const auto adapter =
      make_adapter(lora({.rank = 2, .init = LoraOptions::Init::kPrincipal}), decoder.config());
  LoggedRanks ranks(world);
  UnitStore store(stored_units(decoder.units(), adapter->layouts(), {}), ranks,
                  {{3, Reduction::kExact, true}});
  testing::fill_weights(store, decoder.num_units());
  const auto handle = at::addThreadLocalCallback(at::RecordFunctionCallback(&log_decomposition));
  initialise(*adapter, /*seed=*/3, ranks, store);
  at::removeCallback(handle);
  const auto num_decompositions = std::ranges::count(events, 'd');
  BOOST_TEST(num_decompositions > 0);
  // On one rank nothing is gathered; later, what changes the base is.
  const bool is_alone = world.world_size() == 1;
  const size_t first = events.find('d');
  const bool is_in_order = events.starts_with('g') && events.find('g', first) > events.rfind('d');
  BOOST_TEST((is_in_order || is_alone), "the order is " << events);
  at::Tensor all = at::tensor({static_cast<float>(num_decompositions)});
  world.all_reduce(all, ReduceOp::kSum).wait();
  BOOST_TEST(all.item<float>() == static_cast<float>(adapter->file.slots().size() / 2));
}

// GCC 12 cannot compile designated members in a test that is a template.
MethodOptions pissa_of_rank_3() {
  return lora({.rank = 3, .alpha = 6.0, .init = LoraOptions::Init::kPrincipal});
}

BOOST_DATA_TEST_CASE_F(RanksFixture, pissa_takes_off_the_base_what_it_adds_to_it,
                       data::make({0, 1, 3}) * data::make({at::kFloat, at::kBFloat16}), stage,
                       dtype) {
  Decoder decoder(testing::tiny_config(true));
  const auto adapter = make_adapter(pissa_of_rank_3(), decoder.config());
  UnitForm form;
  form.dtype = dtype;
  UnitStore store(stored_units(decoder.units(), adapter->layouts(), form), world,
                  {{stage, Reduction::kExact, true}});
  BaseTensors tensors(store);
  const auto matrix = [&](const std::string& name) {
    return tensors.get(name).to(at::kDouble, /*non_blocking=*/false, /*copy=*/true);
  };
  for (const std::string path : {"model.layers.0.self_attn.v_proj", "model.layers.2.mlp.up_proj"}) {
    testing::fill_weights(store, decoder.num_units());
    const at::Tensor before = matrix(path + ".weight");
    initialise(*adapter, /*seed=*/3, world, store);
    const at::Tensor after = matrix(path + ".weight");
    const std::string ours = "base_model.model." + path;
    const at::Tensor taken =
        2.0 * at::mm(matrix(ours + ".lora_B.weight"), matrix(ours + ".lora_A.weight"));
    BOOST_TEST(taken.norm().item<double>() > 0.1 * before.norm().item<double>());
    BOOST_TEST(at::allclose(after, before - taken, dtype == at::kFloat ? 1e-5 : 1.0 / 256, 1e-6));
  }
}

// Whole weights of an adapter as it begins.
at::Tensor initial_weights(Communicator& ranks, const LoraOptions& options, int stage) {
  Decoder decoder(testing::tiny_config(true));
  const auto adapter = make_adapter(lora(options), decoder.config());
  UnitStore store(stored_units(decoder.units(), adapter->layouts(), {}), ranks,
                  {{stage, Reduction::kExact, true}});
  testing::fill_weights(store, decoder.num_units());
  initialise(*adapter, /*seed=*/3, ranks, store);
  BaseTensors tensors(store);
  std::vector<at::Tensor> all;
  for (const TensorSlot& slot : adapter->file.slots()) {
    all.push_back(tensors.get(slot.name).flatten().clone());
  }
  return at::cat(all);
}

// What is drawn for a matrix depends on its name and the seed, not on the rank that decomposes it.
BOOST_FIXTURE_TEST_CASE(randomised_principal_parts_have_the_bits_of_one_rank, RanksFixture) {
  const LoraOptions options{
      .rank = 3, .init = LoraOptions::Init::kPrincipal, .pissa_iterations = 2};
  const at::Tensor expected = initial_weights(self, options, 0);
  for (const int threads : {1, 3}) {
    at::set_num_threads(threads);
    for (const int stage : {1, 3}) {
      BOOST_TEST(at::equal(initial_weights(world, options, stage), expected),
                 "stage " << stage << ", " << threads << " threads");
    }
  }
  at::set_num_threads(1);
  BOOST_TEST(!at::equal(
      initial_weights(self, {.rank = 3, .init = LoraOptions::Init::kPrincipal}, 0), expected));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper
