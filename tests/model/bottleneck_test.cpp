// SPDX-License-Identifier: Apache-2.0
// The arithmetic of bottlenecks beside LibTorch's autograd, and where the adapter puts them.
#include "model/ops/bottleneck.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>

#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <vector>

#include "model/adapter/bottleneck.h"
#include "model/adapter/method.h"
#include "support/tiny_model.h"

namespace temper {
namespace {

namespace data = boost::unit_test::data;
using enum ActivationFunction;

// A function that a failing case is named after.
struct Named {
  ActivationFunction function;

  operator ActivationFunction() const { return function; }
};
std::ostream& operator<<(std::ostream& out, Named one) { return out << name_of(one.function); }

const std::vector<Named> kFunctions = {{kRelu}, {kSquaredRelu}, {kSwish},
                                       {kGelu}, {kGeluNew},     {kQuickGelu}};

// By LibTorch's operators, from the definitions in transformers.
at::Tensor reference(ActivationFunction function, const at::Tensor& x) {
  switch (function) {
    case kRelu: return at::relu(x);
    case kSwish: return at::silu(x);
    case kGelu: return at::gelu(x);
    case kGeluNew:
      return 0.5 * x * (1.0 + at::tanh(std::sqrt(2.0 / M_PI) * (x + 0.044715 * at::pow(x, 3.0))));
    case kSquaredRelu: return at::relu(x).square();
    case kQuickGelu: return x * at::sigmoid(1.702 * x);
  }
  return {};
}

bool is_close(const at::Tensor& a, const at::Tensor& b) {
  return at::allclose(a, b, /*rtol=*/1e-5, /*atol=*/2e-5);
}

// For sums whose terms cancel now and then.
bool is_close_for_its_size(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<float>() <= 5e-6F * b.abs().max().item<float>();
}

struct Sizes {
  int64_t tokens = 37, hidden = 24, size = 5;
};

struct Fixture {
  std::shared_ptr<UnitBuffers> trained = std::make_shared<UnitBuffers>();
  at::Tensor x, residual, gradient;
  BottleneckWeights weights;

  Fixture() : Fixture(Sizes()) {}
  explicit Fixture(Sizes sizes)
      : x(at::randn({sizes.tokens, sizes.hidden})),
        residual(at::randn({sizes.tokens, sizes.hidden})),
        gradient(at::randn({sizes.tokens, sizes.hidden})) {
    const int64_t hidden = sizes.hidden, size = sizes.size, matrix = size * hidden;
    trained->weights = at::randn({2 * matrix + size + hidden});
    trained->gradients = at::full_like(trained->weights, std::nan(""));
    weights.down = Weight(trained, 0, {size, hidden});
    weights.down_bias = Weight(trained, matrix, {size});
    weights.up = Weight(trained, matrix + size, {hidden, size});
    weights.up_bias = Weight(trained, 2 * matrix + size, {hidden});
  }

  // up(function(down(x))), with the weights in one vector.
  at::Tensor network(const at::Tensor& input, const at::Tensor& flat) const {
    const auto part = [&](const Weight& weight) {
      return flat.narrow(0, weight.offset(), weight.value().numel()).view(weight.shape());
    };
    const at::Tensor down = at::linear(input, part(weights.down), part(weights.down_bias));
    return at::linear(reference(weights.function, down), part(weights.up), part(weights.up_bias));
  }
};

BOOST_FIXTURE_TEST_SUITE(bottleneck_op, Fixture)

BOOST_DATA_TEST_CASE(activation_functions_and_their_slopes_are_those_of_torch,
                     data::make(kFunctions), function) {
  const at::Tensor numbers = at::cat({at::randn({9, 77}).mul(3.0), at::zeros({1, 77}),
                                      at::full({1, 77}, 60.0), at::full({1, 77}, -60.0)});
  const at::Tensor upper = at::randn_like(numbers);
  const at::Tensor input = numbers.clone().requires_grad_();
  const at::Tensor wanted = reference(function, input);
  BOOST_TEST(is_close(activate(function, numbers), wanted.detach()));
  BOOST_TEST(is_close(activate_backward(function, numbers, upper),
                      torch::autograd::grad({wanted}, {input}, {upper})[0]));
}

BOOST_DATA_TEST_CASE_F(Fixture, values_and_gradients_are_those_of_autograd,
                       data::make(kFunctions) * data::make({false, true}), function, onto) {
  weights.function = function;
  const at::Tensor input = x.clone().requires_grad_();
  const at::Tensor below = residual.clone().requires_grad_();
  const at::Tensor y = onto ? bottleneck_onto(below, input, weights) : bottleneck(input, weights);
  const auto found =
      torch::autograd::grad({y}, onto ? std::vector{input, below} : std::vector{input}, {gradient});

  const at::Tensor flat = trained->weights.clone().requires_grad_();
  const at::Tensor same_input = x.clone().requires_grad_();
  at::Tensor wanted = same_input + network(same_input, flat);
  if (onto) wanted = wanted + residual;
  const auto gradients = torch::autograd::grad({wanted}, {same_input, flat}, {gradient});
  BOOST_TEST(is_close_for_its_size(y.detach(), wanted.detach()));
  BOOST_TEST(is_close_for_its_size(found[0], gradients[0]));
  BOOST_TEST(is_close_for_its_size(trained->gradients, gradients[1]));
  if (onto) BOOST_TEST(at::equal(found[1], gradient));
}

BOOST_AUTO_TEST_CASE(a_bfloat16_stream_takes_an_fp32_network_rounded_once) {
  const at::Tensor narrow = x.to(at::kBFloat16), below = residual.to(at::kBFloat16);
  const at::Tensor y = bottleneck_onto(below, narrow, weights);
  const at::Tensor wide = narrow.to(at::kFloat);
  const at::Tensor wanted =
      (wide + below.to(at::kFloat) + network(wide, trained->weights)).to(at::kBFloat16);
  BOOST_TEST((y.scalar_type() == at::kBFloat16));
  // The order of the sums differs: now and then a number on a border is rounded the other way.
  BOOST_TEST(y.eq(wanted).to(at::kFloat).mean().item<float>() > 0.98F);
  BOOST_TEST(at::allclose(y, wanted, /*rtol=*/0.01, /*atol=*/1e-3));
}

BOOST_DATA_TEST_CASE(the_bits_do_not_depend_on_the_number_of_threads,
                     data::make({1, 2, 7, 33, 65, 140}) ^ data::make({24, 48, 20, 33, 100, 64}) ^
                         data::make({3, 1, 9, 33, 50, 36}),
                     tokens, hidden, size) {
  Fixture one({tokens, hidden, size});
  std::vector<std::vector<at::Tensor>> all;
  for (const int threads : {1, 2, 3, 4, 8}) {
    at::set_num_threads(threads);
    const at::Tensor input = one.x.clone().requires_grad_();
    const at::Tensor y = bottleneck_onto(one.residual, input, one.weights);
    const at::Tensor below = torch::autograd::grad({y}, {input}, {one.gradient})[0];
    all.push_back({y.detach(), below, one.trained->gradients.clone()});
  }
  at::set_num_threads(1);
  for (const auto& other : all) {
    for (size_t i = 0; i < other.size(); ++i)
      BOOST_TEST(at::equal(other[i], all[0][i]), "output " << i);
  }
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(bottleneck_adapter)

using Placement = BottleneckOptions::Placement;

const ModelConfig kModel = testing::tiny_config(/*has_tied_head=*/true);

BOOST_AUTO_TEST_CASE(houlsby_puts_two_networks_into_each_block) {
  const Adapter adapter = make_bottleneck({.name = "task"}, kModel);
  BOOST_TEST(adapter.file.slots().size() == 8U * 3U);
  const std::string place = "model.layers.2.attention_adapters.adapters.task.";
  const TensorSlot* down = adapter.units[2].layout.find(place + "adapter_down.0.weight");
  BOOST_REQUIRE(down != nullptr);
  BOOST_TEST(down->shape == (std::vector<int64_t>{3, 48}), boost::test_tools::per_element());
  BOOST_TEST(down->decays);
  BOOST_TEST(!adapter.file.find(place + "adapter_up.bias")->decays);
  const BottleneckWeights& network = adapter.blocks[2].after_attention;
  BOOST_TEST(network.down.offset() == down->offset);
  BOOST_TEST((network.function == kSwish));
  BOOST_TEST(!network.reads_sum);
  BOOST_TEST(adapter.blocks[2].after_mlp.down.offset() > down->offset);
  BOOST_TEST(adapter.units.front().users.front() == 1);
}

BOOST_AUTO_TEST_CASE(pfeiffer_puts_one_behind_the_mlp_that_reads_the_sum) {
  const Adapter adapter = make_bottleneck({.placement = Placement::kPfeiffer}, kModel);
  BOOST_TEST(adapter.file.slots().size() == 4U * 3U);
  BOOST_TEST(!adapter.blocks[0].after_attention.is_defined());
  BOOST_TEST(adapter.blocks[0].after_mlp.reads_sum);
  BOOST_TEST((adapter.blocks[0].after_mlp.function == kRelu));
}

BOOST_AUTO_TEST_CASE(weights_begin_as_in_bert) {
  using Distribution = InitialValues::Distribution;
  const Adapter adapter = make_bottleneck({}, kModel);
  for (const AdapterUnit& unit : adapter.units) {
    for (size_t i = 0; i < unit.initial.size(); ++i) {
      const bool is_matrix = unit.layout.slots()[i].is_matrix();
      const auto wanted = is_matrix ? Distribution::kNormal : Distribution::kZero;
      BOOST_TEST((unit.initial[i].distribution == wanted));
      if (is_matrix) BOOST_TEST(unit.initial[i].scale == 0.02);
    }
  }
}

BOOST_AUTO_TEST_CASE(each_block_has_a_unit_of_its_own) {
  const Adapter adapter = make_bottleneck({}, kModel);
  BOOST_TEST_REQUIRE(std::ssize(adapter.units) == kModel.num_layers);
  for (int layer = 0; layer < kModel.num_layers; ++layer) {
    const std::vector<int> own = {1 + layer};
    BOOST_TEST(adapter.units[static_cast<size_t>(layer)].users == own,
               boost::test_tools::per_element());
  }
  BOOST_TEST(num_elements(adapter.layouts()) == adapter.file.num_elements());
}

// The size that Python's int(48 // factor) has, and at least one.
BOOST_DATA_TEST_CASE(the_size_is_divided_as_in_python,
                     data::make({16.0, 7.5, 0.1, 1.0, 50.0}) ^ data::make({3, 6, 479, 48, 1}),
                     factor, size) {
  BOOST_TEST((BottleneckOptions{.reduction_factor = factor}.size(kModel)) == size);
}

BOOST_AUTO_TEST_CASE(an_adapter_goes_on_with_the_same_tensors_and_arithmetic_only) {
  const auto method = [](BottleneckOptions options) {
    MethodOptions made;
    made.kind = MethodOptions::Kind::kBottleneck;
    made.bottleneck = std::move(options);
    return made;
  };
  const MethodOptions one = method({});
  BOOST_TEST(is_same_adapter(one, method({.reduction_factor = 16, .activation = kSwish}), kModel));
  BOOST_TEST(is_same_adapter(one, method({.reduction_factor = 15.5}), kModel));  // Size 3, too.
  BOOST_TEST(!is_same_adapter(one, method({.reduction_factor = 8}), kModel));
  BOOST_TEST(!is_same_adapter(one, method({.activation = kRelu}), kModel));
  BOOST_TEST(!is_same_adapter(one, method({.placement = Placement::kPfeiffer}), kModel));
  BOOST_TEST(!is_same_adapter(one, method({.name = "other"}), kModel));
  BOOST_TEST(!is_same_adapter(one, MethodOptions{}, kModel));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper
