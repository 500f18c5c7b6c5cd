// SPDX-License-Identifier: Apache-2.0
#include "model/ops/norm.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <memory>

using namespace temper;
namespace data = boost::unit_test::data;

namespace {

constexpr NormKind kKind{.epsilon = 1e-5};
const Heads kHeads{4, 2, 24};

// Queries, keys and values of 70 tokens, more than one block of rows, and both weights.
struct Fixture {
  explicit Fixture(at::ScalarType dtype, at::Device device = at::kCPU) {
    at::manual_seed(1);
    buffers->weights = (at::rand({2 * kHeads.head_dim}) + 0.5).to(dtype).to(device);
    buffers->gradients = at::zeros_like(buffers->weights);
    qkv = at::randn({70, kHeads.columns()}).to(dtype).to(device).requires_grad_();
    upper = at::randn({70, kHeads.columns()}).to(dtype).to(device);
  }

  // The gradient of qkv; those of the weights are written.
  at::Tensor backward(const at::Tensor& output) const {
    return torch::autograd::grad({output}, {qkv}, {upper})[0];
  }

  std::shared_ptr<UnitBuffers> buffers = std::make_shared<UnitBuffers>();
  HeadNormWeights weights{{buffers, 0, {kHeads.head_dim}},
                          {buffers, kHeads.head_dim, {kHeads.head_dim}}};
  at::Tensor qkv, upper;
};

// The columns of queries or keys as rows of one head each.
at::Tensor head_rows(const at::Tensor& qkv, int64_t first_column, int64_t num_heads) {
  return qkv.narrow(1, first_column, num_heads * kHeads.head_dim).reshape({-1, kHeads.head_dim});
}

}  // namespace

BOOST_AUTO_TEST_SUITE(head_norms)

BOOST_DATA_TEST_CASE(a_head_is_normed_as_a_row_of_its_own, data::make({at::kFloat, at::kBFloat16}),
                     dtype) {
  const Fixture f(dtype);
  const at::Tensor output = norm_heads(f.qkv, kHeads, f.weights, kKind);
  const at::Tensor gradient = f.backward(output);
  const at::Tensor key_gradient = f.weights.keys.gradient().clone();
  const int64_t first_key = kHeads.first_key_column(), first_value = kHeads.first_value_column();
  BOOST_TEST(at::equal(output.narrow(1, first_value, kHeads.key_value_columns()),
                       f.qkv.narrow(1, first_value, kHeads.key_value_columns())));
  BOOST_TEST(at::equal(gradient.narrow(1, first_value, kHeads.key_value_columns()),
                       f.upper.narrow(1, first_value, kHeads.key_value_columns())));
  const auto check = [&](int64_t first_column, int64_t num_heads, const Weight& weight) {
    const at::Tensor rows = head_rows(f.qkv.detach(), first_column, num_heads).requires_grad_();
    const at::Tensor expected = norm_rows(rows, {weight, {}}, kKind);
    BOOST_TEST(at::equal(head_rows(output, first_column, num_heads), expected));
    const at::Tensor upper = head_rows(f.upper, first_column, num_heads);
    BOOST_TEST(at::equal(head_rows(gradient, first_column, num_heads),
                         torch::autograd::grad({expected}, {rows}, {upper})[0]));
  };
  check(0, kHeads.num_heads, f.weights.queries);
  check(first_key, kHeads.num_key_value_heads, f.weights.keys);
  // Other blocks of rows, so that the sums differ by their rounding.
  BOOST_TEST(at::allclose(key_gradient, f.weights.keys.gradient(), 1e-2, 1e-4));
}

// A device without numbers shows that no kernel of a CPU is called, and all shapes.
BOOST_AUTO_TEST_CASE(another_device_has_a_way_of_its_own) {
  const Fixture f(at::kBFloat16, at::kMeta);
  const at::Tensor output = norm_heads(f.qkv, kHeads, f.weights, kKind);
  BOOST_TEST(output.sizes() == f.qkv.sizes());
  BOOST_TEST((output.scalar_type() == at::kBFloat16));
  BOOST_TEST(f.backward(output).sizes() == f.qkv.sizes());
}

BOOST_AUTO_TEST_SUITE_END()
