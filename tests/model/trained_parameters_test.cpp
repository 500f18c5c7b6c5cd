// SPDX-License-Identifier: Apache-2.0
// Which parameters patterns mean, how units are divided by them, and what is refused.
#include "model/trained_parameters.h"

#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <set>
#include <string>
#include <vector>

#include "core/error.h"
#include "support/tiny_model.h"

namespace temper {
namespace {

namespace data = boost::unit_test::data;
using Names = std::vector<std::string>;

// Three blocks with every parameter that a family has.
ModelConfig model_of(bool has_tied_head) {
  ModelConfig model = testing::tiny_config(has_tied_head);
  model.has_qkv_bias = model.has_qk_norm = true;
  return model;
}
const ModelConfig kModel = model_of(false);

std::set<std::string> all_names() {
  std::set<std::string> names;
  for (const UnitLayout& unit : decoder_units(kModel)) {
    for (const TensorSlot& slot : unit.slots()) names.insert(slot.name);
  }
  return names;
}

std::set<std::string> trained(const TrainedOptions& options) {
  std::set<std::string> names;
  for (const UnitLayout& unit : trained_parameters({options, {}, 1.0}, kModel).units.layouts) {
    if (!unit.is_trained()) continue;
    for (const TensorSlot& slot : unit.slots()) names.insert(slot.name);
  }
  return names;
}

std::string block(int layer, const std::string& rest) {
  return "model.layers." + std::to_string(layer) + "." + rest;
}

// The names of those that `is_meant` is true for.
template <typename IsMeant>
std::set<std::string> those(IsMeant is_meant) {
  std::set<std::string> names;
  for (const std::string& name : all_names()) {
    if (is_meant(name)) names.insert(name);
  }
  return names;
}

bool has(const std::string& name, const char* part) { return name.find(part) != name.npos; }

BOOST_AUTO_TEST_SUITE(trained_parameters_of)

BOOST_AUTO_TEST_CASE(words_mean_what_they_say) {
  using Set = std::set<std::string>;
  BOOST_TEST((trained({.only = {"embedding"}}) == Set{"model.embed_tokens.weight"}));
  BOOST_TEST((trained({.only = {"head"}}) == Set{"lm_head.weight"}));
  BOOST_TEST((trained({.only = {"biases"}}) ==
              those([](const std::string& name) { return name.ends_with(".bias"); })));
  const Set norms = those([](const std::string& name) { return has(name, "norm"); });
  BOOST_TEST(norms.size() == 3U * 4U + 1U);
  BOOST_TEST((trained({.only = {"norms"}}) == norms));
}

BOOST_AUTO_TEST_CASE(ranges_mean_blocks_and_what_of_them_follows) {
  const auto upper = those(
      [](const std::string& name) { return has(name, "layers.1.") || has(name, "layers.2."); });
  for (const char* text : {"layers.1-2", "layers.1-2.*", R"(layers\.[12])"}) {
    BOOST_TEST((trained({.only = {text}}) == upper), text);
  }
  const std::set<std::string> matrices = {block(1, "mlp.down_proj.weight"),
                                          block(1, "mlp.gate_proj.weight"),
                                          block(1, "mlp.up_proj.weight")};
  BOOST_TEST((trained({.only = {"layers.1.mlp"}}) == matrices));
  const std::set<std::string> norms = {
      block(0, "input_layernorm.weight"), block(0, "post_attention_layernorm.weight"),
      block(0, "self_attn.q_norm.weight"), block(0, "self_attn.k_norm.weight")};
  BOOST_TEST((trained({.only = {"layers.0.norms"}}) == norms));
}

BOOST_AUTO_TEST_CASE(patterns_are_for_the_end_of_a_module_or_a_parameter) {
  const auto queries =
      those([](const std::string& name) { return has(name, "q_proj"); });  // And its biases.
  BOOST_TEST(queries.size() == 6U);
  BOOST_TEST((trained({.only = {"q_proj"}}) == queries));
  BOOST_TEST(trained({.only = {R"(q_proj\.bias)"}}).size() == 3U);
  BOOST_TEST(trained({.only = {R"(model\.norm)"}}).size() == 1U);
}

BOOST_AUTO_TEST_CASE(what_is_frozen_is_taken_off_what_is_trained) {
  BOOST_TEST((trained({.freeze = {"embedding", "layers"}}) ==
              std::set<std::string>{"lm_head.weight", "model.norm.weight"}));
  BOOST_TEST(trained({.only = {"layers.2"}, .freeze = {"norms", "mlp"}}).size() == 4U + 3U);
  BOOST_TEST((trained({}) == all_names()));
}

BOOST_AUTO_TEST_CASE(units_that_are_trained_in_part_are_divided) {
  const DecoderUnits units =
      trained_parameters({{.freeze = {"embedding", "layers.0", "mlp"}}, {}, 1.0}, kModel).units;
  Names names;
  for (const UnitLayout& unit : units.layouts) {
    names.push_back(unit.name() + (unit.is_trained() ? "" : "*"));
  }
  const Names expected = {"embed*", "layers.0*",        "layers.1*",       "layers.2*",
                          "head",   "layers.1.trained", "layers.2.trained"};
  BOOST_TEST(names == expected, boost::test_tools::per_element());
  BOOST_TEST((units.users == std::vector<int>{0, 1, 2, 3, 4, 2, 3}));
  BOOST_TEST(units.lowest_trained() == 2);
  BOOST_TEST(num_elements(units.layouts) == num_elements(decoder_units(kModel)));
  BOOST_TEST(units.layouts[2].find(block(1, "mlp.up_proj.weight")) != nullptr);
  BOOST_TEST(units.layouts[5].find(block(1, "self_attn.q_proj.bias")) != nullptr);
}

BOOST_AUTO_TEST_CASE(the_first_group_that_means_a_parameter_has_it) {
  const std::vector<ParameterGroup> groups = {
      {.match = {"norms"}, .learning_rate = 0.003},
      {.match = {"layers.0-1", "embedding"}, .learning_rate_ratio = 0.5, .weight_decay = 0.2}};
  const auto parameters = trained_parameters({{.freeze = {"layers.1"}}, groups, 0.001}, kModel);
  BOOST_TEST(parameters.groups[0].size() == 2U * 4U + 1U);
  BOOST_TEST(parameters.groups[1].size() == 1U + 7U + 3U);  // Matrices and biases of block 0.
  const auto slot = [&](size_t unit, const std::string& name) {
    return *parameters.units.layouts[unit].find(name);
  };
  BOOST_TEST(slot(1, block(0, "input_layernorm.weight")).rate_ratio == 3.0);
  BOOST_TEST(!slot(1, block(0, "input_layernorm.weight")).weight_decay.has_value());
  BOOST_TEST(slot(1, block(0, "self_attn.q_proj.bias")).rate_ratio == 0.5);
  BOOST_TEST(slot(1, block(0, "self_attn.q_proj.bias")).weight_decay.value() == 0.2);
  BOOST_TEST(slot(3, block(2, "mlp.up_proj.weight")).rate_ratio == 1.0);
}

struct Refusal {
  ParameterOptions options;
  const char* message;
  bool has_tied_head = false;
};
std::ostream& operator<<(std::ostream& out, const Refusal& one) { return out << one.message; }

const std::vector<Refusal> kRefusals = {
    {{{.only = {"q_prj"}}, {}, 1.0},
     "train.only has 'q_prj', which fits no parameter of the model\n"
     "  try: compare it with names such as model.layers.0.self_attn.q_proj.weight"},
    {{{.only = {"proj"}}, {}, 1.0}, "train.only has 'proj', which fits no parameter"},
    {{{.freeze = {"norms", "layers.3"}}, {}, 1.0},
     "train.freeze has 'layers.3', but the model has 3 blocks, 0 to 2\n"
     "  try: write a range of them, as in layers.0-2"},
    {{{.freeze = {"layers.2-1"}}, {}, 1.0}, "train.freeze has 'layers.2-1', but the model has"},
    {{{.freeze = {"layers.0-99999999999"}}, {}, 1.0}, "train.freeze has 'layers.0-99999999999'"},
    {{{.freeze = {"(q_proj"}}, {}, 1.0}, "train.freeze has '(q_proj', which is no regular"},
    {{{.freeze = {"model", "lm_head"}}, {}, 1.0},
     "train.freeze means all of the model: nothing is left to train\n  try: take something off it"},
    {{{.only = {"norms"}, .freeze = {"norms"}}, {}, 1.0},
     "train.freeze means all that train.only means: nothing is left to train"},
    {{{.freeze = {"embedding"}}, {}, 1.0},
     "train.freeze treats the embedding (frozen) and the head (trained) apart, but the model has "
     "one matrix for both\n  try: name both, embedding and head, or neither",
     true},
    {{{.only = {"head"}}, {}, 1.0}, "train.only treats the embedding (frozen) and the head", true},
    {{{}, {{.match = {"embedding"}, .learning_rate = 1.0}}, 1.0},
     "optimizer.groups[0].match treats the embedding (group 0) and the head (in no group) apart",
     true},
    {{{}, {{.match = {"norms"}, .learning_rate = 1.0}, {.match = {"qproj"}}}, 1.0},
     "optimizer.groups[1].match has 'qproj', which fits no parameter of the model"},
    {{{}, {{.match = {"layers"}, .learning_rate = 1.0}, {.match = {"q_proj"}}}, 1.0},
     "optimizer.groups[1].match means no parameter that is trained and in no group before it\n"
     "  try: remove the group, put it before the others, or train what it means"},
    {{{.freeze = {"norms"}}, {{.match = {"norms"}}}, 1.0},
     "optimizer.groups[0].match means no parameter that is trained"},
};

BOOST_DATA_TEST_CASE(what_cannot_be_meant_is_refused, data::make(kRefusals), refusal) {
  const auto says = [&](const ConfigError& error) {
    BOOST_TEST_MESSAGE(error.what());
    return std::string(error.what()).find(refusal.message) == 0;
  };
  BOOST_CHECK_EXCEPTION(trained_parameters(refusal.options, model_of(refusal.has_tied_head)),
                        ConfigError, says);
}

BOOST_AUTO_TEST_CASE(a_tied_head_goes_with_its_embedding) {
  const ModelConfig tied = model_of(true);
  const auto frozen = trained_parameters({{.freeze = {"embedding", "head"}}, {}, 1.0}, tied).units;
  BOOST_TEST(!frozen.layouts.front().is_trained());
  const auto both = trained_parameters({{.only = {"embedding", "head"}}, {}, 1.0}, tied).units;
  BOOST_TEST(both.lowest_trained() == 0);
  BOOST_TEST(num_trained(both.layouts) == tied.vocab_size * tied.hidden_size);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper
