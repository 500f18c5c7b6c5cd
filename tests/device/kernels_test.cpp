// SPDX-License-Identifier: Apache-2.0
// The kernels of our own against the CPU's: bit for bit where only additions and single products
// are rounded, else to a few units of the last place. Sizes leave parts of blocks and chunks over.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <cstring>
#include <string>
#include <vector>

#include "device/accelerator.h"
#include "model/ops/backward.h"
#include "model/ops/cross_entropy.h"
#include "model/ops/dropout.h"
#include "model/ops/embedding.h"
#include "model/ops/kernel_call.h"
#include "model/ops/mlp_activation.h"
#include "model/ops/rotary.h"
#include "model/quantised/dequantise.h"
#include "model/quantised/dynamic_map.h"
#include "model/quantised/quantise.h"
#include "model/quantised/quantised_absmax.h"
#include "optim/gradient_norm.h"
#include "zero/fold.h"
#include "zero/four_bit_kernel.h"

namespace temper {
namespace {

namespace data = boost::unit_test::data;

const auto kDtypes = data::make({at::kFloat, at::kBFloat16});

at::Tensor there(const at::Tensor& host) { return host.to(testing::accelerator(), false, true); }

at::Tensor noise(at::IntArrayRef shape, at::ScalarType dtype) {
  return at::randn(shape, at::detail::createCPUGenerator(/*seed=*/5), at::kFloat).to(dtype);
}

// The largest difference, in units of what the dtype resolves at the numbers' size, 1 at least.
double units_apart(const at::Tensor& found, const at::Tensor& expected) {
  BOOST_TEST((found.scalar_type() == expected.scalar_type()));
  const double unit = expected.scalar_type() == at::kBFloat16 ? 0x1p-8 : 0x1p-23;
  const at::Tensor a = found.cpu().to(at::kDouble), b = expected.to(at::kDouble);
  return (a.sub(b).abs() / b.abs().clamp_min(1.0) / unit).max().item<double>();
}

struct Passed {
  at::Tensor output, gradient;
};

// `function` of a copy of x, and the gradient that `upper` gives.
template <typename Function>
Passed passed(const at::Tensor& x, const at::Tensor& upper, Function function) {
  const GraphPass graph(x.clone(), function);
  const at::Tensor output = graph.output().detach().clone();
  return {output, graph.backward(upper.clone())};
}

BOOST_AUTO_TEST_SUITE(kernels)

BOOST_DATA_TEST_CASE(queries_and_keys_are_rotated_as_on_the_cpu,
                     kDtypes* data::make({20, 16, 2}) * data::make({false, true}), dtype,
                     num_rotated, is_neighbours) {
  const Heads heads{.num_heads = 21, .num_key_value_heads = 3, .head_dim = 20};
  const at::Tensor qkv = noise({5, heads.columns()}, dtype);
  const at::Tensor turns = noise({5, num_rotated / 2}, at::kFloat);
  RotaryAngles angles{turns.cos(), turns.sin(), noise({5}, at::kFloat)};
  if (is_neighbours) angles.pairs = RopeOptions::Pairs::kNeighbours;
  const auto rotated = [&](const RotaryAngles& by) {
    return [&](const at::Tensor& x) { return rotate(x.mul(1.0), by, heads); };
  };
  const at::Tensor upper = qkv.flip(0);
  const Passed expected = passed(qkv, upper, rotated(angles));
  const RotaryAngles own{there(angles.cosines), there(angles.sines), there(angles.query_factors),
                         angles.pairs};
  const Passed found = passed(there(qkv), there(upper), rotated(own));
  BOOST_TEST(units_apart(found.output, expected.output) <= 2.0);
  BOOST_TEST(units_apart(found.gradient, expected.gradient) <= 2.0);
  BOOST_TEST(at::equal(found.output.cpu().slice(1, heads.first_value_column()),
                       qkv.slice(1, heads.first_value_column())));
}

BOOST_DATA_TEST_CASE(gates_are_those_of_the_cpu,
                     kDtypes* data::make({1, 17, 2 * 256 * 8 + 8}) *
                         data::make({"swish", "gelu_new"}),
                     dtype, size, name) {
  const auto function =
      name == std::string("swish") ? ActivationFunction::kSwish : ActivationFunction::kGeluNew;
  const at::Tensor x = noise({3, 2 * size}, dtype).mul(3.0), upper = noise({3, size}, dtype);
  const auto activated = [&](const at::Tensor& input) {
    return activate_mlp(input, {function, /*is_gated=*/true});
  };
  const Passed expected = passed(x, upper, activated);
  const Passed found = passed(there(x), there(upper), activated);
  BOOST_TEST(units_apart(found.output, expected.output) <= 8.0);
  BOOST_TEST(units_apart(found.gradient, expected.gradient) <= 16.0);
  const at::Tensor without_graph =
      activate_mlp_backward(there(x), {function, /*is_gated=*/true}, there(upper));
  BOOST_TEST(at::equal(without_graph, found.gradient));
}

BOOST_DATA_TEST_CASE(losses_and_their_gradients_are_those_of_the_cpu,
                     kDtypes* data::make({2, 1001, 50257}), dtype, size) {
  const at::Tensor logits = noise({4, size}, dtype).mul(6.0);
  const at::Tensor targets = at::tensor({0, 1, size - 1, size / 2}, at::kLong);
  at::Tensor on_cpu = logits.clone(), on_device = there(logits);
  const at::Tensor expected = cross_entropy_with_gradient(on_cpu, targets);
  BOOST_TEST(units_apart(cross_entropy(on_device, there(targets)), expected) <= 16.0);
  BOOST_TEST(at::equal(on_device.cpu(), logits));
  const at::Tensor found = cross_entropy_with_gradient(on_device, there(targets));
  BOOST_TEST(units_apart(found, expected) <= 16.0);
  BOOST_TEST(units_apart(on_device, on_cpu) <= 2.0);
}

BOOST_DATA_TEST_CASE(rows_of_one_token_are_added_in_their_order, kDtypes* data::make({1, 65, 600}),
                     dtype, size) {
  const at::Tensor tokens = at::tensor({3, 0, 3, 6, 3, 3, 0, 5}, at::kLong);
  const at::Tensor gradient = noise({8, size}, dtype), before = noise({7, size}, dtype);
  const at::Tensor expected = before.clone(), found = there(before);
  add_rows_by_token(expected, gradient, tokens);
  add_rows_by_token(found, there(gradient), there(tokens));
  BOOST_TEST(at::equal(found.cpu(), expected));
}

BOOST_DATA_TEST_CASE(the_same_elements_are_dropped, kDtypes* data::make({1, 13, 700}), dtype,
                     size) {
  Dropout dropout(0.3, /*seed=*/11);
  dropout.set_micro_batch(5);
  const at::Tensor x = noise({7, size}, dtype), sum = x.flip(0).contiguous(), other = there(sum);
  BOOST_TEST(at::equal(dropout.apply(there(x), 2).cpu(), dropout.apply(x, 2)));
  dropout.add_applied(sum, x, 3);
  dropout.add_applied(other, there(x), 3);
  BOOST_TEST(at::equal(other.cpu(), sum));
}

BOOST_DATA_TEST_CASE(blocks_of_ranks_are_folded_in_their_order, kDtypes* data::make({false, true}),
                     dtype, is_fresh) {
  const FoldStart start = is_fresh ? FoldStart::kFresh : FoldStart::kAdd;
  constexpr int64_t kSize = 3 * 4096 + 5;
  const at::Tensor blocks = noise({3 * kSize}, dtype), sum = noise({kSize}, at::kFloat);
  const at::Tensor found = there(sum);
  fold_blocks(blocks, 3, sum, start);
  fold_blocks(there(blocks), 3, found, start);
  BOOST_TEST(at::equal(found.cpu(), sum));
}

BOOST_AUTO_TEST_CASE(squares_have_the_bits_that_operators_give) {
  const at::Tensor numbers = noise({3 * kNormBlock + 77}, at::kFloat).exp().mul(1e3);
  ExactSum expected, found;
  add_squares_by_operators({&numbers, 1}, expected);
  add_squares(there(numbers), found);
  BOOST_TEST(found.value() == expected.value());
}

// A matrix that begins within the first of three ranks' slices and ends within the last.
BOOST_DATA_TEST_CASE(a_matrix_of_four_bits_has_the_bits_of_the_cpu,
                     kDtypes* data::make({"nf4", "fp4"}) * data::make({false, true}), dtype, name,
                     is_double) {
  const auto kind = name == std::string("nf4") ? FourBitKind::kNf4 : FourBitKind::kFp4;
  const FourBitFormat format{kind};
  constexpr int64_t kShard = 4 * 4096, kBegin = 192, kSize = 2 * kShard + 1024;
  std::vector<uint8_t> codes(kSize / 2);
  std::vector<float> absmax(kSize / 64), rounded(absmax.size());
  quantise(noise({kSize}, at::kFloat), format, codes, absmax);
  const QuantisedAbsmax scales = quantise_absmax(absmax);
  dequantise_absmax(scales, rounded);
  const at::Tensor expected = at::empty({kSize}, dtype);
  dequantise({codes, is_double ? rounded : absmax}, format, expected);

  const int64_t scale_bytes = is_double ? 1 : 4, slice = kShard / 2 + kShard / 64 * scale_bytes;
  const at::Tensor packed = at::full({3 * slice}, 0xFF, at::kByte);
  auto* const bytes = packed.mutable_data_ptr<uint8_t>();
  for (int64_t block = 0; block < kSize / 64; ++block) {
    const int64_t element = kBegin + 64 * block, own = element % kShard;
    uint8_t* const begin = bytes + element / kShard * slice;
    std::copy_n(codes.data() + 32 * block, 32, begin + own / 2);
    const void* const scale =
        is_double ? static_cast<const void*>(scales.codes.data() + block) : absmax.data() + block;
    std::memcpy(begin + kShard / 2 + own / 64 * scale_bytes, scale,
                static_cast<size_t>(scale_bytes));
  }
  const auto& map = dynamic_map(MapSign::kSigned);
  const at::Tensor on_device = there(packed), found = there(at::zeros({kSize}, dtype));
  const at::Tensor values = there(at::tensor(at::ArrayRef<float>(map.data(), map.size())));
  const at::Tensor of_scales = there(at::tensor(scales.absmax));
  const PackedMatrix matrix{source_of<uint8_t>(on_device),
                            slice,
                            kShard,
                            kBegin,
                            kSize,
                            64,
                            is_double ? source_of<float>(values) : nullptr,
                            source_of<float>(of_scales),
                            scales.offset};
  dispatch_kernel(dtype, [&](auto zero) {
    using T = decltype(zero);
    FourBitKernel<T> kernel{matrix, place_of<T>(found), {}};
    std::ranges::copy(four_bit_values(kind), kernel.values);
    launch_beside(found, kernel);
  });
  BOOST_TEST(at::equal(found.cpu(), expected));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper
