// SPDX-License-Identifier: Apache-2.0
// What quantised_oracle.py cannot choose: single codes, threads, and parts of a tensor.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "core/floats.h"
#include "model/quantised/dequantise.h"
#include "model/quantised/device_dequantiser.h"
#include "model/quantised/quantise.h"
#include "model/quantised/quantised_absmax.h"

namespace temper {
namespace {

constexpr FourBitFormat kNf4{FourBitKind::kNf4, 64};
constexpr FourBitFormat kFp4{FourBitKind::kFp4, 64};

struct Stored {
  std::vector<uint8_t> codes;
  std::vector<float> absmax;

  bool operator==(const Stored&) const = default;
};

Stored quantised(const at::Tensor& values, const FourBitFormat& format) {
  Stored stored{std::vector<uint8_t>(size_t(format.num_bytes(values.numel()))),
                std::vector<float>(size_t(format.num_blocks(values.numel())))};
  quantise(values, format, stored.codes, stored.absmax);
  return stored;
}

Stored quantised(const std::vector<float>& values, const FourBitFormat& format) {
  return quantised(at::tensor(values), format);
}

at::Tensor dequantised(const Stored& stored, const FourBitFormat& format, int64_t size,
                       at::ScalarType dtype = at::kFloat) {
  const at::Tensor out = at::full({size + 1}, 77, dtype);  // The last one is a guard.
  dequantise({stored.codes, stored.absmax}, format, out.narrow(0, 0, size));
  BOOST_TEST(out[size].item<float>() == 77.0F);
  return out.narrow(0, 0, size);
}

int code_of(const Stored& stored, size_t element) {
  const int pair = stored.codes.at(element / 2);
  return element % 2 == 0 ? pair >> 4 : pair & 15;
}

// A whole block that begins with 1 and x: its scale is 1.
Stored block_with(float x, const FourBitFormat& format) {
  std::vector<float> block(size_t(format.block_size), 0.0F);
  block[0] = 1.0F;
  block[1] = x;
  return quantised(block, format);
}

struct Threads {
  explicit Threads(int count) : before(at::get_num_threads()) { at::set_num_threads(count); }
  ~Threads() { at::set_num_threads(before); }
  int before;
};

std::vector<float> ramp(size_t size) {
  std::vector<float> numbers(size);
  std::iota(numbers.begin(), numbers.end(), 1.0F);
  return numbers;
}

BOOST_AUTO_TEST_SUITE(quantised_tensors)

BOOST_AUTO_TEST_CASE(each_value_has_its_code_and_comes_back) {
  for (const FourBitFormat& format : {kNf4, kFp4}) {
    const auto& values = four_bit_values(format.kind);
    for (int code = 0; code < 16; ++code) {
      if (format.kind == FourBitKind::kFp4 && code == 8) continue;  // A second zero.
      const float value = values[size_t(code)];
      const Stored stored = block_with(value, format);
      BOOST_TEST(code_of(stored, 1) == code);
      BOOST_TEST(dequantised(stored, format, 64)[1].item<float>() == value);
    }
  }
}

BOOST_AUTO_TEST_CASE(a_number_goes_up_only_above_the_midpoint) {
  for (const FourBitFormat& format : {kNf4, kFp4}) {
    auto values = four_bit_values(format.kind);
    std::sort(values.begin(), values.end());
    for (size_t i = 0; i + 1 < 16; ++i) {
      if (values[i] == values[i + 1]) continue;
      const float midpoint = (values[i] + values[i + 1]) / 2;
      const auto value_of = [&](float x) {
        return dequantised(block_with(x, format), format, 64)[1].item<float>();
      };
      BOOST_TEST(value_of(midpoint) == values[i]);
      BOOST_TEST(value_of(std::nextafter(midpoint, -2.0F)) == values[i]);
      BOOST_TEST(value_of(std::nextafter(midpoint, 2.0F)) == values[i + 1]);
    }
  }
}

BOOST_AUTO_TEST_CASE(the_first_element_is_in_the_high_nibble) {
  const Stored stored = quantised({1.0F, -1.0F, -1.0F, 1.0F}, kNf4);
  BOOST_TEST(stored.codes == (std::vector<uint8_t>{0xf0, 0x0f}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(an_odd_count_is_padded_with_zero) {
  BOOST_TEST(quantised({2.0F}, kNf4).codes.at(0) == 0xf7);
  BOOST_TEST(quantised({2.0F}, kFp4).codes.at(0) == 0x30);
  const std::vector<float> numbers = ramp(67);
  const Stored stored = quantised(numbers, kNf4);
  BOOST_TEST(stored.codes.size() == 34U);
  BOOST_TEST(dequantised(stored, kNf4, 67)[66].item<float>() == 67.0F);
}

BOOST_AUTO_TEST_CASE(a_partial_block_has_a_scale_of_its_own) {
  const Stored stored = quantised(ramp(70), kNf4);
  BOOST_TEST(stored.absmax == (std::vector<float>{64.0F, 70.0F}), boost::test_tools::per_element());
  BOOST_TEST(dequantised(stored, kNf4, 70)[69].item<float>() == 70.0F);
}

BOOST_AUTO_TEST_CASE(zeros_have_the_code_of_zero) {
  const Stored nf4 = quantised(std::vector<float>(64, 0.0F), kNf4);
  BOOST_TEST(nf4.codes == std::vector<uint8_t>(32, 0x77), boost::test_tools::per_element());
  BOOST_TEST(nf4.absmax.at(0) == 0.0F);
  BOOST_TEST(dequantised(nf4, kNf4, 64).eq(0).all().item<bool>());
  const Stored fp4 = quantised(std::vector<float>(64, 0.0F), kFp4);
  BOOST_TEST(fp4.codes == std::vector<uint8_t>(32, 0), boost::test_tools::per_element());
  const Stored partial = quantised(std::vector<float>(5, 0.0F), kNf4);
  BOOST_TEST(dequantised(partial, kNf4, 5).eq(0).all().item<bool>());
}

BOOST_AUTO_TEST_CASE(blocks_run_over_the_borders_of_rows) {
  const at::Tensor matrix = at::arange(1, 145, at::kFloat).view({3, 48});
  const Stored stored = quantised(matrix, kNf4);
  BOOST_TEST(stored.absmax == (std::vector<float>{64.0F, 128.0F, 144.0F}),
             boost::test_tools::per_element());
  BOOST_TEST((stored == quantised(matrix.view(-1), kNf4)));
}

BOOST_AUTO_TEST_CASE(numbers_that_are_not_finite_show_in_the_scales) {
  for (const float x :
       {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
        std::numeric_limits<float>::quiet_NaN()}) {
    for (const size_t place : {size_t{0}, size_t{63}, size_t{130}}) {
      std::vector<float> numbers = ramp(140);
      BOOST_TEST(all_finite(quantised(numbers, kNf4).absmax));
      numbers[place] = x;
      BOOST_TEST(!all_finite(quantised(numbers, kNf4).absmax));
      const at::Tensor half = at::tensor(numbers).to(at::kBFloat16);
      BOOST_TEST(!all_finite(quantised(half, kFp4).absmax));
    }
  }
}

BOOST_AUTO_TEST_CASE(parts_and_threads_give_the_bits_of_the_whole) {
  at::manual_seed(1);
  const int64_t size = 64 * 5000 + 37, cut = 64 * 1777;
  const at::Tensor numbers = at::randn({size});
  Threads one(1);
  const Stored whole = quantised(numbers, kNf4);
  const at::Tensor fp32 = dequantised(whole, kNf4, size);
  const at::Tensor bf16 = dequantised(whole, kNf4, size, at::kBFloat16);
  for (const int count : {2, 3, 5}) {
    Threads several(count);
    BOOST_TEST((quantised(numbers, kNf4) == whole));
    BOOST_TEST(dequantised(whole, kNf4, size).equal(fp32));
    BOOST_TEST(dequantised(whole, kNf4, size, at::kBFloat16).equal(bf16));
  }
  Stored parts{std::vector<uint8_t>(whole.codes.size()), std::vector<float>(whole.absmax.size())};
  const std::span<uint8_t> codes(parts.codes);
  const std::span<float> absmax(parts.absmax);
  quantise(numbers.narrow(0, 0, cut), kNf4, codes.first(cut / 2), absmax.first(cut / 64));
  quantise(numbers.narrow(0, cut, size - cut), kNf4, codes.subspan(cut / 2),
           absmax.subspan(cut / 64));
  BOOST_TEST((parts == whole));
  const at::Tensor out = at::empty({size}, at::kBFloat16);
  dequantise({codes.first(cut / 2), absmax.first(cut / 64)}, kNf4, out.narrow(0, 0, cut));
  dequantise({codes.subspan(cut / 2), absmax.subspan(cut / 64)}, kNf4,
             out.narrow(0, cut, size - cut));
  BOOST_TEST(out.equal(bf16));
}

BOOST_AUTO_TEST_CASE(dequantising_is_a_product_rounded_to_the_dtype) {
  at::manual_seed(2);
  for (const FourBitFormat& format : {kNf4, kFp4, FourBitFormat{FourBitKind::kNf4, 32}}) {
    const int64_t size = 5001;
    const Stored stored = quantised(at::randn({size}), format);
    const auto& values = four_bit_values(format.kind);
    const at::Tensor products = at::empty({size});
    for (int64_t i = 0; i < size; ++i) {
      products[i] =
          values[size_t(code_of(stored, size_t(i)))] * stored.absmax[size_t(i / format.block_size)];
    }
    BOOST_TEST(dequantised(stored, format, size).equal(products));
    BOOST_TEST(dequantised(stored, format, size, at::kBFloat16).equal(products.to(at::kBFloat16)));
  }
}

BOOST_AUTO_TEST_CASE(scales_are_quantised_in_blocks_of_256) {
  for (const size_t size : {1U, 256U, 257U, 700U}) {
    const std::vector<float> absmax = ramp(size);
    const QuantisedAbsmax stored = quantise_absmax(absmax);
    BOOST_TEST(stored.codes.size() == size);
    BOOST_TEST(stored.absmax.size() == (size + 255) / 256);
    BOOST_TEST(stored.offset == at::tensor(absmax).mean().item<float>());
    std::vector<float> again(size);
    dequantise_absmax(stored, again);
    for (size_t i = 0; i < size; ++i) {
      // Half the widest gap between two values, 0.9 / 64, and the width of a place.
      const float bound = stored.absmax[i / 256] * (0.9F / 128 + 1.0F / 65536);
      BOOST_TEST(std::abs(again[i] - absmax[i]) <= bound);
    }
  }
}

BOOST_AUTO_TEST_CASE(equal_scales_are_kept_in_the_offset) {
  for (const size_t size : {1U, 256U, 257U}) {
    const std::vector<float> absmax(size, 0.375F);
    const QuantisedAbsmax stored = quantise_absmax(absmax);
    BOOST_TEST(stored.offset == 0.375F);
    for (const float difference : stored.absmax) BOOST_TEST(difference == 0.0F);
    std::vector<float> again(size);
    dequantise_absmax(stored, again);
    BOOST_TEST(again == absmax, boost::test_tools::per_element());
  }
}

BOOST_AUTO_TEST_CASE(the_mean_of_many_scales_does_not_depend_on_threads) {
  at::manual_seed(3);
  const at::Tensor numbers = at::rand({100003});
  const std::span<const float> absmax(numbers.const_data_ptr<float>(), 100003);
  Threads one(1);
  const QuantisedAbsmax expected = quantise_absmax(absmax);
  Threads several(3);
  const QuantisedAbsmax stored = quantise_absmax(absmax);
  BOOST_TEST(stored.offset == expected.offset);
  BOOST_TEST((stored.codes == expected.codes));
  BOOST_TEST(at::get_num_threads() == 3);
  std::vector<float> first(absmax.size()), second(absmax.size());
  dequantise_absmax(stored, first);
  Threads again(1);
  dequantise_absmax(stored, second);
  BOOST_TEST((first == second));
}

BOOST_AUTO_TEST_CASE(operations_of_torch_give_the_same_bits) {
  at::manual_seed(4);
  for (const FourBitFormat& format : {kNf4, kFp4, FourBitFormat{FourBitKind::kNf4, 4096}}) {
    const DeviceDequantiser device(format, at::kCPU);
    for (const int64_t size : {format.block_size, int64_t{3} << 22}) {
      const Stored stored = quantised(at::randn({size}), format);
      const at::Tensor codes = at::tensor(stored.codes, at::kByte);
      const at::Tensor absmax = at::tensor(stored.absmax);
      for (const auto dtype : {at::kFloat, at::kBFloat16}) {
        const at::Tensor out = at::empty({size}, dtype);
        device.dequantise(codes, absmax, out);
        BOOST_TEST(out.equal(dequantised(stored, format, size, dtype)));
      }
      const QuantisedAbsmax scales = quantise_absmax(stored.absmax);
      std::vector<float> expected(stored.absmax.size());
      dequantise_absmax(scales, expected);
      const at::Tensor found = device.dequantise_absmax(at::tensor(scales.codes, at::kByte),
                                                        at::tensor(scales.absmax), scales.offset);
      BOOST_TEST(found.equal(at::tensor(expected)));
    }
  }
}

BOOST_AUTO_TEST_CASE(wrong_shapes_for_operations_of_torch_are_refused) {
  const DeviceDequantiser device(kNf4, at::kCPU);
  const at::Tensor codes = at::zeros({32}, at::kByte), absmax = at::zeros({1});
  for (const int64_t wrong : {32, 62, 63, 65, 128}) {
    BOOST_CHECK_THROW(device.dequantise(codes, absmax, at::zeros({wrong})), std::invalid_argument);
  }
  BOOST_CHECK_THROW(device.dequantise(codes, at::zeros({2}), at::zeros({64})),
                    std::invalid_argument);
  BOOST_CHECK_THROW(device.dequantise_absmax(codes, at::zeros({2}), 0), std::invalid_argument);
  BOOST_CHECK_THROW(DeviceDequantiser({FourBitKind::kNf4, 48}, at::kCPU), std::invalid_argument);
}

BOOST_AUTO_TEST_CASE(wrong_shapes_dtypes_and_block_sizes_are_refused) {
  std::vector<uint8_t> codes(32);
  std::vector<float> absmax(1);
  const at::Tensor numbers = at::zeros({64});
  for (const int64_t block_size : {0, 16, 48, 8192}) {
    const FourBitFormat format{FourBitKind::kNf4, block_size};
    BOOST_CHECK_THROW(quantise(numbers, format, codes, absmax), std::invalid_argument);
    BOOST_CHECK_THROW(dequantise({codes, absmax}, format, numbers), std::invalid_argument);
  }
  for (const at::Tensor& wrong :
       {at::zeros({63 - 1}), at::zeros({64}, at::kDouble), at::zeros({8, 16}).narrow(1, 0, 8)}) {
    BOOST_CHECK_THROW(quantise(wrong, kNf4, codes, absmax), std::invalid_argument);
    BOOST_CHECK_THROW(dequantise({codes, absmax}, kNf4, wrong), std::invalid_argument);
  }
  BOOST_CHECK_THROW(quantise_absmax({}), std::invalid_argument);
  BOOST_CHECK_THROW(dequantise_absmax(quantise_absmax(absmax), {}), std::invalid_argument);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper
