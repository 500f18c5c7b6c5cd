// SPDX-License-Identifier: Apache-2.0
// Which tensors LoRA has, how they begin, and what is refused.
#include "model/adapter/lora.h"

#include <ATen/ATen.h>
#include <ATen/record_function.h>

#include <algorithm>
#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "model/adapter/initial_values.h"
#include "model/adapter/method.h"
#include "model/ops/one_thread.h"
#include "support/tiny_model.h"

namespace temper {
namespace {

namespace data = boost::unit_test::data;

const ModelConfig kModel = testing::tiny_config(true);

std::vector<std::string> paths(const LoraOptions& options) {
  std::vector<std::string> paths;
  for (const LoraModule& module : lora_modules(options, kModel)) paths.push_back(module.path);
  return paths;
}

BOOST_AUTO_TEST_SUITE(lora)

BOOST_AUTO_TEST_CASE(all_linear_means_every_matrix_of_the_blocks_and_not_the_head) {
  BOOST_TEST(paths({}).size() == 3U * 7U);
  BOOST_TEST(paths({}).front() == "model.layers.0.self_attn.q_proj");
  BOOST_TEST(paths({}).back() == "model.layers.2.mlp.down_proj");
}

BOOST_AUTO_TEST_CASE(targets_are_the_ends_of_paths) {
  BOOST_TEST(paths({.targets = {"self_attn.v_proj", "layers.2.mlp.up_proj"}}) ==
                 (std::vector<std::string>{
                     "model.layers.0.self_attn.v_proj", "model.layers.1.self_attn.v_proj",
                     "model.layers.2.self_attn.v_proj", "model.layers.2.mlp.up_proj"}),
             boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(a_pattern_is_for_the_whole_path) {
  BOOST_TEST(paths({.target_pattern = R"(model\.layers\.[01]\.mlp\.(up|gate)_proj)"}).size() == 4U);
  BOOST_CHECK_THROW(paths({.target_pattern = "q_proj"}), ConfigError);
}

BOOST_AUTO_TEST_CASE(ranks_and_scales_are_those_of_peft) {
  const LoraOptions options{.rank = 4,
                            .alpha = 6.0,
                            .targets = {"q_proj"},
                            .rank_pattern = {{R"(layers\.1\.self_attn\.q_proj)", 2}},
                            .alpha_pattern = {{"q_proj", 3.0}}};
  const auto modules = lora_modules(options, kModel);
  BOOST_TEST(modules[0].rank == 4);
  BOOST_TEST(modules[0].scale == 0.75);
  BOOST_TEST(modules[1].rank == 2);
  BOOST_TEST(modules[1].scale == 1.5);
  LoraOptions stabilised{.rank = 4, .alpha = 6.0, .uses_rslora = true};
  BOOST_TEST(lora_modules(stabilised, kModel)[0].scale == 3.0);
}

BOOST_AUTO_TEST_CASE(modules_that_share_a_product_share_the_projection) {
  const Adapter adapter = make_lora({.rank = 5, .targets = {"q_proj", "v_proj"}}, 1, kModel);
  const std::string prefix = "base_model.model.model.layers.0.self_attn.";
  const auto& slots = adapter.file.slots();
  BOOST_TEST(slots[0].name == prefix + "q_proj.lora_A.weight");
  BOOST_TEST(slots[1].name == prefix + "v_proj.lora_A.weight");
  BOOST_TEST(slots[2].name == prefix + "q_proj.lora_B.weight");
  BOOST_TEST(slots[3].name == prefix + "v_proj.lora_B.weight");
  const LowRank& both = adapter.blocks[0].queries_keys_values;
  BOOST_TEST(both.down.shape() == (std::vector<int64_t>{10, kModel.hidden_size}),
             boost::test_tools::per_element());
  BOOST_TEST(both.parts[1].first_row == 5);
  const int64_t before_values = (kModel.num_heads + kModel.num_key_value_heads) * kModel.head_dim;
  BOOST_TEST(both.parts[1].first_column == before_values);
  BOOST_TEST(!adapter.blocks[0].output.is_defined());
}

// The lowest unit of the decoder that computes with an adapter: 0 is the embedding.
int lowest_user(const LoraOptions& options) {
  int lowest = std::numeric_limits<int>::max();
  for (const AdapterUnit& unit : make_lora(options, 1, kModel).units) {
    lowest = std::min(lowest, unit.users.front());
  }
  return lowest;
}

BOOST_AUTO_TEST_CASE(the_lowest_block_with_an_addition_is_found) {
  BOOST_TEST(lowest_user({.layers = {2}}) == 3);
  BOOST_TEST(lowest_user({.targets = {"layers.1.mlp.up_proj"}}) == 2);
  BOOST_TEST(lowest_user({}) == 1);
}

BOOST_AUTO_TEST_CASE(a_trained_embedding_needs_the_gradients_of_all_blocks) {
  LoraOptions options{.layers = {2}};
  options.saved.modules = {"model.norm"};
  BOOST_TEST(lowest_user(options) == 3);
  options.saved.modules = {"embed_tokens"};
  BOOST_TEST(lowest_user(options) == 0);
  options.saved = {.tokens = {4}};
  BOOST_TEST(lowest_user(options) == 0);
}

BOOST_AUTO_TEST_CASE(what_lies_outside_the_blocks_has_a_unit_of_its_own) {
  LoraOptions options{.layers = {0, 2}};
  options.saved = {.modules = {"norm"}, .tokens = {4, 9}};
  const Adapter adapter = make_lora(options, 1, kModel);
  BOOST_TEST_REQUIRE(adapter.units.size() == 4U);  // Each block has norms.
  const std::vector<std::vector<int>> users = {{1}, {2}, {3}, {0, 4}};
  for (size_t unit = 0; unit < users.size(); ++unit) {
    BOOST_TEST(adapter.units[unit].users == users[unit], boost::test_tools::per_element());
  }
  BOOST_TEST(adapter.units[1].layout.slots().size() == 2U);
  BOOST_TEST(adapter.units[3].layout.find("base_model.model.model.norm.weight") != nullptr);
  BOOST_TEST(num_elements(adapter.layouts()) == adapter.file.num_elements());
}

BOOST_AUTO_TEST_CASE(a_module_to_save_is_an_end_of_paths) {
  LoraOptions options{.targets = {"q_proj"}};
  options.saved.modules = {"norm"};
  const Adapter adapter = make_lora(options, 1, kModel);
  BOOST_TEST(adapter.final_norm.is_defined());
  BOOST_TEST(adapter.blocks[1].attention_norm.is_defined());
  BOOST_TEST(adapter.blocks[1].mlp_norm.is_defined());
  const TensorSlot* norm = adapter.file.find("base_model.model.model.norm.weight");
  BOOST_TEST_REQUIRE(norm != nullptr);
  BOOST_TEST(!norm->decays);
}

BOOST_AUTO_TEST_CASE(only_b_learns_faster) {
  const Adapter adapter = make_lora({.plus_ratio = 16.0}, 1, kModel);
  for (const TensorSlot& slot : adapter.file.slots()) {
    BOOST_TEST(slot.rate_ratio == (slot.name.ends_with("lora_B.weight") ? 16.0 : 1.0));
  }
}

BOOST_AUTO_TEST_CASE(full_fine_tuning_has_no_adapter) {
  BOOST_TEST(!make_adapter({}, kModel).has_value());
}

struct Refused {
  LoraOptions options;
  std::string message;
};
std::ostream& operator<<(std::ostream& out, const Refused& one) { return out << one.message; }

const std::vector<Refused> kRefused = {
    {{.targets = {"q_proj", "qproj"}},
     "lora.targets names 'qproj', which is no linear module of this llama model\n"
     "  try: take some of: all-linear, q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, "
     "down_proj"},
    {{.layers = {1, 3}},
     "lora.layers names block 3, but the model has 3 blocks\n  try: take numbers from 0 to 2"},
    {{.target_pattern = "(q_proj"},
     "lora.target_pattern has '(q_proj', which is no regular expression that is read here: a ( "},
    {{.rank_pattern = {{"[", 3}}}, "lora.rank_pattern has '[', which is no regular expression"},
    {{.target_pattern = std::string(100'000, '.')},
     "lora.target_pattern has '............................................................…', "
     "which "
     "is no regular expression that is read here: it has 100000 characters, and 10000 are the "
     "most"},
    {{.targets = {"q_proj"}, .rank_pattern = {{"q_porj", 3}}},
     "lora.rank_pattern has 'q_porj', which fits no module that is adapted\n  try: compare it with "
     "paths such as model.layers.0.self_attn.q_proj, or remove it"},
    {{.targets = {"q_proj"}, .alpha_pattern = {{"v_proj", 3.0}}},
     "lora.alpha_pattern has 'v_proj', which fits no module that is adapted"},
    {{.alpha_pattern = {{"v_proj", 3.0}, {"v_proj", 4.0}}},
     "lora.alpha_pattern has 'v_proj' twice\n  try: keep one of them"},
    {{.target_pattern = ".*q_proj", .layers = {1}},
     "lora.layers has no place beside a pattern for whole paths, as in peft"},
    {{.targets = {std::string("q\0proj", 6)}},
     "lora.targets names 'q\\x00proj', which is no linear"},
    {{.target_pattern = "lm_head"}, "the options under lora mean no module of the model"},
    {{.targets = {"layers.0.mlp.up_proj"}, .layers = {1}},
     "the options under lora mean no module of the model"},
    {{.rank = 1000, .targets = {"down_proj"}, .init = LoraOptions::Init::kPrincipal},
     "lora.init is pissa, but model.layers.0.mlp.down_proj has no 1000 principal parts: it is "},
    {{.saved = {.modules = {"up_proj"}}},
     "lora.modules_to_save names 'up_proj', a matrix of the blocks\n  try: name it in "
     "lora.targets, or set method to full"},
    {{.saved = {.modules = {"lm_haed"}}},
     "lora.modules_to_save names 'lm_haed', which is no module of this llama model\n  try: take "
     "some of: embed_tokens, lm_head, model.norm, input_layernorm, post_attention_layernorm"},
    {{.saved = {.modules = {"embed_tokens"}, .tokens = {3}}},
     "lora.modules_to_save trains model.embed_tokens as a whole, and lora.trainable_tokens rows "},
    {{.saved = {.tokens = {3, 4, 3}}}, "lora.trainable_tokens has 3 twice\n  try: name it once"},
    {{.saved = {.tokens = {3, 1'000'000}}},
     "lora.trainable_tokens has 1000000, but the vocabulary has "},
};

BOOST_DATA_TEST_CASE(what_means_no_module_is_refused, data::make(kRefused), refused) {
  BOOST_CHECK_EXCEPTION(make_lora(refused.options, 1, kModel), ConfigError, [&](const auto& error) {
    BOOST_TEST(std::string(error.what()).starts_with(refused.message), error.what());
    return true;
  });
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(initial_values)

std::vector<float> drawn(const InitialValues& initial, uint64_t seed, Range range) {
  std::vector<float> values(static_cast<size_t>(range.size()));
  fill_initial_values(initial, seed, "a tensor", range, values);
  return values;
}

BOOST_AUTO_TEST_CASE(a_uniform_tensor_fills_its_bounds) {
  const auto values = drawn({InitialValues::Distribution::kUniform, 0.25}, 1, {0, 100'000});
  double sum = 0.0, squares = 0.0;
  for (const float value : values) {
    BOOST_REQUIRE(std::abs(value) <= 0.25F);
    sum += value;
    squares += value * value;
  }
  BOOST_TEST(std::abs(sum / 1e5) < 0.002);
  BOOST_TEST(std::abs(squares / 1e5 - 0.25 * 0.25 / 3.0) < 0.0005);
}

BOOST_AUTO_TEST_CASE(a_normal_tensor_has_its_deviation) {
  const auto values = drawn({InitialValues::Distribution::kNormal, 0.5}, 1, {0, 100'000});
  double sum = 0.0, squares = 0.0, fourths = 0.0;
  for (const double value : values) {
    sum += value;
    squares += value * value;
    fourths += value * value * value * value;
  }
  BOOST_TEST(std::abs(sum / 1e5) < 0.01);
  BOOST_TEST(std::abs(squares / 1e5 - 0.25) < 0.005);
  BOOST_TEST(std::abs(fourths / 1e5 - 3.0 * 0.0625) < 0.01);  // Kurtosis 3.
}

BOOST_AUTO_TEST_CASE(any_part_can_be_drawn_by_itself) {
  const InitialValues initial{InitialValues::Distribution::kNormal, 1.0};
  const auto whole = drawn(initial, 1, {0, 1000});
  const auto part = drawn(initial, 1, {300, 400});
  BOOST_TEST(part == std::vector<float>(whole.begin() + 300, whole.begin() + 400),
             boost::test_tools::per_element());
  BOOST_TEST((drawn(initial, 2, {0, 1000}) != whole));
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(nearly_principal)

// With singular values 1, 1/2, 1/3 and so on.
at::Tensor matrix_of(int64_t rows, int64_t columns) {
  const auto fp64 = at::TensorOptions().dtype(at::kDouble);
  const int64_t fewer = std::min(rows, columns);
  const at::Tensor left = std::get<0>(at::linalg_qr(at::randn({rows, fewer}, fp64)));
  const at::Tensor right = std::get<0>(at::linalg_qr(at::randn({columns, fewer}, fp64)));
  const at::Tensor values = at::arange(1, fewer + 1, fp64).reciprocal();
  return at::mm(left.mul(values), right.t()).to(at::kFloat);
}

constexpr int64_t kRank = 6;
constexpr double kScale = 1.5;

at::Tensor sketch_for(const at::Tensor& matrix) {
  return at::randn({std::min(matrix.size(0), matrix.size(1)), kRank});
}

at::Tensor sum_of(const PrincipalParts& parts) {
  return at::mm(parts.up.to(at::kDouble), parts.down.to(at::kDouble)).mul(kScale);
}

// Written down from torch.svd_lowrank of PyTorch 2.11, in fp64, with its random matrix given.
at::Tensor svd_lowrank(const at::Tensor& matrix, const at::Tensor& sketch, int num_iterations) {
  const auto basis_of = [](const at::Tensor& x) { return std::get<0>(at::linalg_qr(x)); };
  const at::Tensor wide = matrix.to(at::kDouble);
  const at::Tensor a = wide.size(0) < wide.size(1) ? wide.t() : wide;
  at::Tensor q = basis_of(at::mm(a, sketch.to(at::kDouble)));
  for (int i = 0; i < num_iterations; ++i) {
    q = basis_of(at::mm(a.t(), q));
    q = basis_of(at::mm(a, q));
  }
  const auto [u, s, v] = at::linalg_svd(at::mm(q.t(), a), false);
  const at::Tensor approximation = at::mm(at::mm(q, u).mul(s), v);
  return wide.size(0) < wide.size(1) ? approximation.t() : approximation;
}

const std::vector<std::vector<int64_t>> kSizes = {{90, 40}, {40, 90}, {130, 130}, {300, 517}};

BOOST_AUTO_TEST_CASE(it_is_what_svd_lowrank_computes) {
  at::manual_seed(5);
  for (const auto& size : kSizes) {
    const at::Tensor matrix = matrix_of(size[0], size[1]), sketch = sketch_for(matrix);
    for (const int num_iterations : {1, 4}) {
      const auto found = sum_of(nearly_principal_parts(matrix, sketch, num_iterations, kScale));
      const auto wanted = svd_lowrank(matrix, sketch, num_iterations);
      BOOST_TEST((found - wanted).norm().item<double>() < 1e-5);
    }
  }
}

BOOST_AUTO_TEST_CASE(it_is_nearly_the_best_approximation_of_its_rank) {
  at::manual_seed(6);
  for (const auto& size : kSizes) {
    const at::Tensor matrix = matrix_of(size[0], size[1]);
    const auto error_of = [&](const PrincipalParts& parts) {
      return (sum_of(parts) - matrix).norm().item<double>();
    };
    const double best = error_of(principal_parts(matrix, kRank, kScale));
    const at::Tensor sketch = sketch_for(matrix);
    const PrincipalParts parts = nearly_principal_parts(matrix, sketch, 16, kScale);
    BOOST_TEST(error_of(parts) < 1.001 * best);
    // Both share the singular values, whatever the scale: B'B and AA' are diagonal and alike.
    const at::Tensor ups = at::mm(parts.up.t(), parts.up);
    BOOST_TEST(at::allclose(ups, at::diag(ups.diagonal()), 0.0, 1e-5));
    BOOST_TEST(at::allclose(ups, at::mm(parts.down, parts.down.t()), 0.0, 1e-5));
  }
}

BOOST_AUTO_TEST_CASE(any_number_of_threads_gives_the_same_bits) {
  at::manual_seed(7);
  const OneThread restores_their_number;
  for (const auto& size : kSizes) {
    const at::Tensor matrix = matrix_of(size[0], size[1]), sketch = sketch_for(matrix);
    at::set_num_threads(1);
    const PrincipalParts alone = nearly_principal_parts(matrix, sketch, 3, kScale);
    for (const int num_threads : {2, 5, 16}) {
      at::set_num_threads(num_threads);
      const PrincipalParts parts = nearly_principal_parts(matrix, sketch, 3, kScale);
      BOOST_TEST(at::equal(parts.up, alone.up), "on " << num_threads << " threads");
      BOOST_TEST(at::equal(parts.down, alone.down), "on " << num_threads << " threads");
    }
  }
}

// Operations of decompositions so far, but for a constant: rows columns min(rows, columns) each.
thread_local double num_operations = 0.0;

// Of u [rows, k] and v [k, columns], or q and r, with k = min(rows, columns): what was decomposed
// is not looked at, since LibTorch's header asserts in builds without NDEBUG what only a LibTorch
// without it can know.
void count_decomposition(const at::RecordFunction& operation, at::ObserverContext*) {
  const std::string_view name = operation.name();
  if (name != "aten::linalg_svd" && name != "aten::linalg_qr") return;
  const at::Tensor left = operation.outputs().front().toTensor();
  const at::Tensor right = operation.outputs().back().toTensor();
  num_operations += static_cast<double>(left.numel() * right.size(1));
}

double decomposition_operations(const std::function<void()>& work) {
  num_operations = 0.0;
  const auto nothing = [](const at::RecordFunction&) -> std::unique_ptr<at::ObserverContext> {
    return nullptr;
  };
  const auto handle = at::addThreadLocalCallback(
      at::RecordFunctionCallback(nothing, &count_decomposition).needsOutputs(true));
  work();
  at::removeCallback(handle);
  return num_operations;
}

// Its 34 products beside them take 2 rows columns rank each, a tenth of the exact decomposition's
// 20 rows columns min(rows, columns) for this size.
BOOST_AUTO_TEST_CASE(what_it_decomposes_grows_with_the_rank_instead_of_the_matrix) {
  at::manual_seed(8);
  const at::Tensor matrix = at::randn({300, 517}), sketch = sketch_for(matrix);
  const double exact = decomposition_operations([&] { principal_parts(matrix, kRank, kScale); });
  const double random =
      decomposition_operations([&] { nearly_principal_parts(matrix, sketch, 16, kScale); });
  BOOST_TEST(exact == 300.0 * 300.0 * 517.0);
  BOOST_TEST(random == kRank * kRank * (17.0 * 517.0 + 16.0 * 300.0 + 300.0));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper
