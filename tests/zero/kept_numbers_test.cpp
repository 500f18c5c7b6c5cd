// SPDX-License-Identifier: Apache-2.0
// What becomes of moments that are kept in fewer bits. state_oracle.py compares with bitsandbytes.
#include "zero/kept_numbers.h"

#include <ATen/ATen.h>

#include <array>
#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <cmath>

#include "zero/compact_update.h"
#include "zero/eight_bit.h"

namespace temper {
namespace {

namespace data = boost::unit_test::data;

// A matrix of whole blocks, one of less, a small tensor, and one that begins within a block.
const UnitLayout kUnit("unit", {{"whole", {64, 256}, true},
                                {"odd", {59, 101}, true},
                                {"small", {577}, false},
                                {"last", {5000}, true}});

KeptNumbers make_numbers(at::ScalarType dtype, Range kept, MapSign sign = MapSign::kSigned) {
  KeptNumbers numbers{.numbers = at::zeros({kept.size()}, dtype), .kept = kept, .sign = sign};
  if (dtype != at::kByte) return numbers;
  numbers.parts = std::make_shared<const std::vector<ScaledPart>>(scaled_parts(kUnit, kept));
  numbers.scales = at::zeros({num_scales(*numbers.parts)});
  return numbers;
}

std::span<float> floats(const at::Tensor& tensor) {
  return {tensor.mutable_data_ptr<float>(), static_cast<size_t>(tensor.numel())};
}

at::Tensor read(const KeptNumbers& numbers, Range elements) {
  at::Tensor out = at::empty({elements.size()});
  numbers.read(elements, floats(out));
  return out;
}

// Of very different sizes, with zeros.
at::Tensor wide_numbers(int64_t size) {
  at::manual_seed(1);
  return at::randn({size}) * at::exp(6 * at::randn({size})) * (at::rand({size}) > 0.1);
}

BOOST_AUTO_TEST_SUITE(kept_numbers)

BOOST_DATA_TEST_CASE(what_was_read_is_written_again_as_it_was,
                     data::make({at::kFloat, at::kBFloat16, at::kByte}) * data::make({false, true}),
                     dtype, is_signed) {
  const MapSign sign = is_signed ? MapSign::kSigned : MapSign::kUnsigned;
  const Range all{0, kUnit.num_elements()};
  at::Tensor values = wide_numbers(all.size());
  if (!is_signed) values = values.square();
  const KeptNumbers first = make_numbers(dtype, all, sign), second = make_numbers(dtype, all, sign);
  first.write(all, floats(values));
  second.write(all, floats(read(first, all)));
  BOOST_TEST(at::equal(first.numbers, second.numbers));
  BOOST_TEST((dtype != at::kByte || at::equal(first.scales, second.scales)));
  BOOST_TEST(at::equal(read(first, all), read(second, all)));
}

// Each number to half the distance of its neighbours in the map, at most 1.05 % of the largest one,
// and 10 % of itself far below that; tensors of fewer than 4,096 elements in all their bits.
BOOST_AUTO_TEST_CASE(eight_bits_are_near_and_small_tensors_exact) {
  const Range all{0, kUnit.num_elements()};
  const KeptNumbers numbers = make_numbers(at::kByte, all);
  at::manual_seed(2);
  const at::Tensor values = at::randn({all.size()});
  numbers.write(all, floats(values));
  const at::Tensor error = (read(numbers, all) - values).abs();
  const Range small = kUnit.find("small")->range();
  BOOST_TEST(error.narrow(0, small.begin, small.size()).max().item<float>() == 0.0F);
  const at::Tensor largest = values.narrow(0, 0, 64 * 256).view({64, 256}).abs().amax({1}, true);
  const at::Tensor relative = error.narrow(0, 0, 64 * 256).view({64, 256}) / largest;
  BOOST_TEST(relative.max().item<float>() < 0.0106F);
  BOOST_TEST((error / values.abs().clamp_min(1e-3)).max().item<float>() < 0.5F);
  BOOST_TEST(error.max().item<float>() > 0.0F);
}

BOOST_AUTO_TEST_CASE(the_largest_of_a_block_is_exact_whatever_its_sign) {
  for (const float largest : {-3.3F, 3.3F}) {
    std::array<float, 256> values{};
    values[17] = largest;
    values[18] = 1e-3F;
    std::array<uint8_t, 256> codes;
    const EightBitCodes& map = eight_bit_codes(MapSign::kSigned);
    const float scale = map.encode(values, codes);
    map.decode(codes, scale, values);
    BOOST_TEST(values[17] == largest);
    BOOST_TEST(values[0] == 0.0F);
  }
}

// A step divides by the root of the second moment: 0 would stand for the smallest epsilon.
BOOST_AUTO_TEST_CASE(a_second_moment_above_zero_stays_above_zero) {
  std::array<float, 3> values{1.0F, 1e-12F, 0.0F};
  std::array<uint8_t, 3> codes;
  const EightBitCodes& map = eight_bit_codes(MapSign::kUnsigned);
  const float scale = map.encode(values, codes);
  map.decode(codes, scale, values);
  BOOST_TEST(values[1] > 0.0F);
  BOOST_TEST(values[2] == 0.0F);
}

BOOST_DATA_TEST_CASE(any_cut_gives_the_same_numbers, data::make({at::kBFloat16, at::kByte}),
                     dtype) {
  const Range all{0, kUnit.num_elements()};
  at::manual_seed(3);
  const at::Tensor weights = at::randn({all.size()}), gradients = wide_numbers(all.size());
  const auto steps = [&](int64_t shard) {
    at::Tensor parameters = weights.clone();
    for (int64_t begin = 0; begin < all.end; begin += shard) {
      const Range kept = intersection({begin, begin + shard}, all);
      const CompactMoments moments{make_numbers(dtype, kept),
                                   make_numbers(dtype, kept, MapSign::kUnsigned), 7};
      for (int64_t step = 1; step <= 5; ++step) {
        for (const TensorSlot& slot : kUnit.slots()) {
          const Range range = intersection(slot.range(), kept);
          if (range.is_empty()) continue;
          const AdamWOptions options;
          update_compactly(moments, range, parameters.narrow(0, range.begin, range.size()),
                           gradients.narrow(0, range.begin, range.size()),
                           {options, {.step = step, .learning_rate = 0.01}});
        }
      }
    }
    return parameters;
  };
  const at::Tensor whole = steps(all.size());
  BOOST_TEST(!at::equal(whole, weights));
  BOOST_TEST(at::equal(steps(4096), whole));
  BOOST_TEST(at::equal(steps(3 * 4096), whole));
}

// Rounding up with probability p: the mean error is 0 with a variance of p (1 - p) / n, in units of
// the distance between neighbours.
BOOST_DATA_TEST_CASE(rounding_by_chance_has_no_bias, data::make({0.5, 0.01, 0.99, 1.0 / 3.0}), p) {
  constexpr int64_t kSize = 1 << 20;
  const double distance = std::pow(2.0, -7);  // Of bf16 in [1, 2).
  const Range all{0, kSize};
  const KeptNumbers numbers{.numbers = at::zeros({kSize}, at::kBFloat16), .kept = all};
  const at::Tensor values = at::full({kSize}, 1.0 + p * distance, at::kFloat);
  const Rounding rounding{11, {3, 0}};
  numbers.write(all, floats(values), &rounding);
  const at::Tensor rounded = read(numbers, all);
  const double mean_error =
      (rounded.to(at::kDouble) - values.to(at::kDouble)).mean().item<double>() / distance;
  const double deviation = std::sqrt(p * (1.0 - p) / static_cast<double>(kSize));
  BOOST_TEST(std::abs(mean_error) < 5.0 * deviation);
  BOOST_TEST(rounded.max().item<float>() - rounded.min().item<float>() == 0x1p-7F);
  // Neither neighbours, nor steps, nor the two moments go together.
  const at::Tensor ups = rounded.gt(1.0).to(at::kDouble) - p;
  const auto share_with = [&](const at::Tensor& others) {
    return (ups * others).mean().item<double>() / (p * (1.0 - p));
  };
  BOOST_TEST(std::abs(share_with(ups.roll(1))) < 0.01);
  for (const Rounding& other : {Rounding{11, {4, 0}}, Rounding{11, {3, 1}}, Rounding{12, {3, 0}}}) {
    numbers.write(all, floats(values), &other);
    BOOST_TEST(std::abs(share_with(read(numbers, all).gt(1.0).to(at::kDouble) - p)) < 0.01);
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper
