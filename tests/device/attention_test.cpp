// SPDX-License-Identifier: Apache-2.0
// Attention on an accelerator, fused and not, against the CPU's.
#include "model/ops/attention.h"

#include <ATen/ATen.h>

#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <vector>

#include "device/accelerator.h"
#include "model/ops/backward.h"
#include "model/ops/flash_attention.h"

namespace temper {
namespace {

namespace data = boost::unit_test::data;

const std::vector<int64_t> kBegins = {0, 1, 20, 33, 70};

struct Passed {
  at::Tensor output, gradient;
};

Passed pass(const at::Tensor& qkv, const Heads& heads, int64_t window) {
  const GraphPass graph(qkv.clone(), [&](const at::Tensor& input) {
    return attention(input, heads, {kBegins, window});
  });
  const at::Tensor upper = at::linspace(-1.0, 1.0, graph.output().numel(), at::kFloat)
                               .sin()
                               .view(graph.output().sizes())
                               .to(qkv.options());
  return {graph.output().detach().cpu(), graph.backward(upper).cpu()};
}

double difference(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor x = a.to(at::kFloat), y = b.to(at::kFloat);
  return (x.sub(y).norm() / y.norm()).item<double>();
}

BOOST_AUTO_TEST_SUITE(device_attention)

BOOST_DATA_TEST_CASE(outputs_and_gradients_are_those_of_the_cpu,
                     data::make({1, 2, 4}) * data::make({0, 1, 5, 100}) * data::make({16, 12}) *
                         data::make({at::kFloat, at::kBFloat16}),
                     num_key_value_heads, window, head_dim, dtype) {
  const Heads heads{
      .num_heads = 4, .num_key_value_heads = num_key_value_heads, .head_dim = head_dim};
  const at::Tensor places = at::arange(kBegins.back() * heads.columns(), at::kFloat);
  const at::Tensor host =  // Noise of a kind, around 0.
      places.mul(12.9898).sin().mul(43758.5).frac().mul(2.0).view({-1, heads.columns()}).to(dtype);
  const at::Tensor qkv = host.to(testing::accelerator());
  const bool is_fused = dtype == at::kBFloat16 && head_dim == 16;
  BOOST_TEST(has_flash_attention(qkv, heads) == is_fused);
  BOOST_TEST(!has_flash_attention(host, heads));
  const Passed found = pass(qkv, heads, window), expected = pass(host, heads, window);
  const double allowed = dtype == at::kFloat ? 1e-5 : 1e-2;
  BOOST_TEST(difference(found.output, expected.output) < allowed);
  BOOST_TEST(difference(found.gradient, expected.gradient) < allowed);
  BOOST_TEST(!at::globalContext().deterministicAlgorithms());
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper
