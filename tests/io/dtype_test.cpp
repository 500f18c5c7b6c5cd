// SPDX-License-Identifier: Apache-2.0
#include "io/dtype.h"

#include <bit>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <limits>
#include <vector>

namespace temper {
namespace {

uint16_t narrowed(DType dtype, float number) {
  uint16_t bits = 0;
  from_floats(dtype, std::span(&number, 1), std::as_writable_bytes(std::span(&bits, 1)));
  return bits;
}

float widened(DType dtype, uint16_t bits) {
  float number = 0;
  to_floats(dtype, std::as_bytes(std::span(&bits, 1)), std::span(&number, 1));
  return number;
}

// The value of a half or a bfloat16 by the definition of the formats.
double value_of(int bits, int mantissa_bits) {
  const int exponent_bits = 15 - mantissa_bits;
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = (bits >> mantissa_bits) & ((1 << exponent_bits) - 1);
  const int mantissa = bits & ((1 << mantissa_bits) - 1);
  const double sign = bits & 0x8000 ? -1.0 : 1.0;
  if (exponent == (1 << exponent_bits) - 1) return mantissa ? NAN : sign * INFINITY;
  const int whole = exponent == 0 ? mantissa : mantissa + (1 << mantissa_bits);
  return sign * std::ldexp(whole, std::max(exponent, 1) - bias - mantissa_bits);
}

struct Format {
  DType dtype;
  int mantissa_bits;
};
constexpr Format kFormats[] = {{DType::kBF16, 7}, {DType::kF16, 10}};

BOOST_AUTO_TEST_SUITE(dtype)

BOOST_AUTO_TEST_CASE(every_type_has_a_name_that_leads_back_to_it) {
  for (int i = 0; i <= static_cast<int>(DType::kU64); ++i) {
    const auto type = static_cast<DType>(i);
    BOOST_TEST((parse_dtype(to_string(type)) == type));
  }
  BOOST_TEST(to_string(DType::kF8E4M3) == "F8_E4M3");
  BOOST_TEST(num_bits(DType::kF6E2M3) == 6);
  BOOST_TEST(num_bits(DType::kBF16) == 16);
  BOOST_TEST(num_bits(DType::kC64) == 64);
  BOOST_TEST(!parse_dtype("bf16"));
  BOOST_TEST(!parse_dtype(""));
}

BOOST_AUTO_TEST_CASE(every_16_bit_number_widens_to_its_value_and_narrows_back) {
  for (const Format& format : kFormats) {
    for (int bits = 0; bits < 65536; ++bits) {
      const float number = widened(format.dtype, static_cast<uint16_t>(bits));
      const double wanted = value_of(bits, format.mantissa_bits);
      if (std::isnan(wanted)) {
        BOOST_REQUIRE(std::isnan(number));
        BOOST_REQUIRE(std::isnan(widened(format.dtype, narrowed(format.dtype, number))));
      } else {
        BOOST_REQUIRE_EQUAL(static_cast<double>(number), wanted);
        BOOST_REQUIRE_EQUAL(narrowed(format.dtype, number), bits);
      }
    }
  }
}

// Between each number and the next: the middle goes to the even one, its neighbours to the nearer.
BOOST_AUTO_TEST_CASE(narrowing_rounds_to_the_nearest_and_ties_to_even) {
  for (const Format& format : kFormats) {
    const int infinity =
        value_of(0x7F80, 7) == INFINITY && format.mantissa_bits == 7 ? 0x7F80 : 0x7C00;
    for (int bits = 0; bits < infinity - 1; ++bits) {
      const double low = value_of(bits, format.mantissa_bits);
      const double high = value_of(bits + 1, format.mantissa_bits);
      const auto middle = static_cast<float>((low + high) / 2);
      const int even = bits + (bits & 1);
      BOOST_REQUIRE_EQUAL(narrowed(format.dtype, middle), even);
      BOOST_REQUIRE_EQUAL(narrowed(format.dtype, -middle), even | 0x8000);
      BOOST_REQUIRE_EQUAL(narrowed(format.dtype, std::nextafter(middle, 0.0f)), bits);
      BOOST_REQUIRE_EQUAL(narrowed(format.dtype, std::nextafter(middle, INFINITY)), bits + 1);
    }
  }
}

BOOST_AUTO_TEST_CASE(numbers_too_big_become_infinite) {
  BOOST_TEST(narrowed(DType::kF16, 65519.99f) == 0x7BFF);
  BOOST_TEST(narrowed(DType::kF16, 65520.0f) == 0x7C00);
  BOOST_TEST(narrowed(DType::kF16, -1e30f) == 0xFC00);
  BOOST_TEST(narrowed(DType::kBF16, std::numeric_limits<float>::max()) == 0x7F80);
  BOOST_TEST(narrowed(DType::kBF16, std::numeric_limits<float>::denorm_min()) == 0);
}

BOOST_AUTO_TEST_CASE(a_nan_whose_payload_rounds_up_stays_a_nan) {
  for (const uint32_t bits : {0x7F800001u, 0x7FFFFFFFu, 0xFFFFFFFFu, 0x7F80FFFFu}) {
    const auto nan = std::bit_cast<float>(bits);
    BOOST_TEST(std::isnan(widened(DType::kBF16, narrowed(DType::kBF16, nan))));
    BOOST_TEST(std::isnan(widened(DType::kF16, narrowed(DType::kF16, nan))));
  }
}

BOOST_AUTO_TEST_CASE(fp32_passes_unchanged_from_any_address) {
  const std::vector<float> numbers{1.5f, -0.0f, 3e38f};
  std::vector<std::byte> bytes(1 + 4 * numbers.size());
  const auto unaligned = std::span(bytes).subspan(1);
  from_floats(DType::kF32, numbers, unaligned);
  std::vector<float> back(numbers.size());
  to_floats(DType::kF32, unaligned, back);
  BOOST_TEST(back == numbers, boost::test_tools::per_element());
  from_floats(DType::kBF16, numbers, unaligned.first(6));
  to_floats(DType::kBF16, unaligned.first(6), back);
  BOOST_TEST(back[0] == 1.5f);
}

BOOST_AUTO_TEST_CASE(wrong_sizes_and_other_types_are_errors) {
  std::vector<float> floats(3);
  std::vector<std::byte> bytes(7);
  BOOST_CHECK_THROW(to_floats(DType::kBF16, bytes, floats), std::invalid_argument);
  BOOST_CHECK_THROW(from_floats(DType::kF32, floats, bytes), std::invalid_argument);
  BOOST_CHECK_THROW(to_floats(DType::kI8, std::span(bytes).first(3), floats),
                    std::invalid_argument);
  BOOST_TEST(!is_convertible(DType::kF64));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper
