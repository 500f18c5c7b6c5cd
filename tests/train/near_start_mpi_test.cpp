// SPDX-License-Identifier: Apache-2.0
// What holds a model to where it began, L2-SP and the divergence from the start model, and the mean
// of its weights: the bits of one rank at every stage, with every method.
#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <filesystem>
#include <string>

#include "train/invariant_run.h"

namespace temper {
namespace {

namespace data = boost::unit_test::data;
using Kind = MethodOptions::Kind;
using testing::alone;
using testing::check_equal;
using testing::check_other_ways;
using testing::check_stage;
using testing::Curve;
using testing::RanksFixture;
using testing::train;
using testing::Variant;

struct Named {
  const char* name;
  Variant variant;
};
std::ostream& operator<<(std::ostream& out, const Named& named) { return out << named.name; }

constexpr int kSteps = 3;  // The second one has the first update in its divergence.
constexpr KlOptions kNear{.weight = 0.7, .temperature = 1.5};

Variant variant_of(Kind kind, const KlOptions& kl) {
  Variant variant{.num_steps = kSteps, .ema_decay = 0.75, .kl = kl};
  variant.method.kind = kind;
  variant.method.lora = {.rank = 5, .dropout = 0.2, .layers = {1, 2}};
  variant.method.bottleneck = {.reduction_factor = 9.0};
  variant.method.prefix = {.num_tokens = 5};
  variant.method.prompt = {.num_tokens = 5, .init = PromptOptions::Init::kNormal};
  return variant;
}

Variant whole(const ParameterOptions& parameters, bool has_tied_head) {
  Variant variant = variant_of(Kind::kFull, kNear);
  variant.parameters = parameters;
  variant.has_tied_head = has_tied_head;
  variant.l2_sp = 4.0;
  return variant;
}

std::vector<Named> variants() {
  Variant pissa = variant_of(Kind::kLora, {});
  pissa.method.lora.init = LoraOptions::Init::kPrincipal;
  Variant saved = variant_of(Kind::kLora, kNear);
  saved.method.lora.saved.modules = {"embed_tokens", "norm"};
  return {{"all", whole({{}, {}, 0.01, 0.5}, true)},
          {"a part", whole({{.only = {"layers.2", "norms"}}, {}, 0.01}, false)},
          {"lora", variant_of(Kind::kLora, kNear)},
          {"qlora", variant_of(Kind::kQlora, kNear)},
          {"saved modules", saved},
          {"pissa", pissa},
          {"prefix", variant_of(Kind::kPrefix, kNear)},
          {"prompt", variant_of(Kind::kPrompt, kNear)},
          {"bottleneck", variant_of(Kind::kBottleneck, kNear)}};
}

BOOST_FIXTURE_TEST_SUITE(near_start, RanksFixture)

BOOST_DATA_TEST_CASE_F(RanksFixture, every_stage_gives_the_bits_of_one_rank,
                       data::make({0, 1, 2, 3}) * data::make({at::kFloat, at::kBFloat16}) *
                           data::make(variants()),
                       stage, dtype, named) {
  Variant variant = named.variant;
  variant.stage = stage;
  variant.dtype = dtype;
  check_stage(world, self, named.name, variant);
}

BOOST_DATA_TEST_CASE_F(RanksFixture, prefetching_recomputation_and_threads_do_not_matter,
                       data::make(variants()), named) {
  check_other_ways(world, named.variant, alone(self, named.name, named.variant));
}

// At first there is nothing to hold to: the model is its start, bit for bit.
BOOST_DATA_TEST_CASE_F(RanksFixture, the_divergence_begins_at_nothing_and_grows,
                       data::make({at::kFloat, at::kBFloat16}), dtype) {
  for (const Kind kind : {Kind::kFull, Kind::kLora}) {
    Variant variant = variant_of(kind, kNear);
    variant.dtype = dtype;
    const Curve curve = train(world, variant);
    BOOST_REQUIRE(curve.kls.size() == kSteps);
    BOOST_TEST(curve.kls[0] == 0.0);
    BOOST_TEST(curve.kls[1] > 0.0);
    variant.kl.weight = 50.0;
    BOOST_TEST(train(world, variant).kls[2] < curve.kls[2]);
  }
}

double distance(const Curve& a, const Curve& b) {
  double sum = 0.0;
  for (size_t unit = 0; unit < a.weights.size(); ++unit) {
    sum += (a.weights[unit].to(at::kDouble) - b.weights[unit].to(at::kDouble))
               .pow(2)
               .sum()
               .item<double>();
  }
  return sum;
}

BOOST_FIXTURE_TEST_CASE(a_pull_leaves_weights_nearer_to_their_start, RanksFixture) {
  Variant variant{.num_steps = kSteps};
  UnitStore resting(in_form(decoder_units(testing::tiny_config(variant.has_tied_head))), world, {});
  testing::fill_weights(resting);
  Curve start;
  testing::add_weights(resting, start.weights);
  const double free = distance(train(world, variant), start);
  variant.l2_sp = 20.0;
  const double held = distance(train(world, variant), start);
  BOOST_TEST(held < 0.9 * free);
  variant.l2_sp = 1e-12;  // Less than a number has bits for.
  BOOST_TEST(distance(train(world, variant), start) == free);
}

BOOST_DATA_TEST_CASE_F(RanksFixture, what_is_offloaded_has_the_same_bits, data::make({0, 3}),
                       stage) {
  Variant variant = whole({{}, {}, 0.01}, true);
  variant.dtype = at::kBFloat16;
  variant.stage = stage;
  variant.kl = {};
  const Curve kept = train(world, variant);
  variant.offload = std::filesystem::temp_directory_path();
  check_equal(train(world, variant), kept);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper
