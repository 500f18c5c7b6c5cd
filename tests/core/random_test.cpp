// SPDX-License-Identifier: Apache-2.0
#include "core/random.h"

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <set>
#include <stdexcept>
#include <vector>

namespace temper {
namespace {

using Words = std::array<uint32_t, 4>;

BOOST_AUTO_TEST_SUITE(random)

// The known answers that come with the Random123 library (kat_vectors, philox4x32-10).
BOOST_AUTO_TEST_CASE(philox_gives_the_known_answers) {
  const uint32_t ones = 0xFFFFFFFF;
  BOOST_TEST((philox(0, {0, 0, 0, 0}) == Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  BOOST_TEST((philox(~uint64_t{0}, {ones, ones, ones, ones}) ==
              Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  BOOST_TEST((philox(0x299f31d0a4093822, {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}) ==
              Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

BOOST_AUTO_TEST_CASE(a_run_of_counters_has_the_words_of_each) {
  for (const uint64_t first : {uint64_t{0}, uint64_t{0xFFFFFFF5}, ~uint64_t{0} - 3}) {
    for (const size_t count : {1, 15, 16, 37}) {
      std::vector<uint32_t> words(4 * count);
      philox_run(77, first, {5, 9}, words);
      for (size_t i = 0; i < count; ++i) {
        const uint64_t number = first + i;
        const Words one =
            philox(77, {static_cast<uint32_t>(number), static_cast<uint32_t>(number >> 32), 5, 9});
        BOOST_TEST(std::equal(one.begin(), one.end(), words.begin() + static_cast<int64_t>(4 * i)));
      }
    }
  }
  std::vector<uint32_t> odd(5);
  BOOST_CHECK_THROW(philox_run(77, 0, {0, 0}, odd), std::invalid_argument);
}

BOOST_AUTO_TEST_CASE(words_are_of_their_key_and_index_alone) {
  BOOST_TEST(random_word(0, 0) == 0xe169c58d6627e8d5);
  std::set<uint64_t> seen;
  for (uint64_t key = 0; key < 10; ++key) {
    for (uint64_t index = 0; index < 10; ++index) {
      seen.insert(random_word(key, index));
      seen.insert(random_word(key, index << 32 | 0x80000000));
    }
  }
  BOOST_TEST(seen.size() == 200u);
}

BOOST_AUTO_TEST_CASE(uniform_numbers_fill_the_unit_interval) {
  double sum = 0.0;
  std::vector<int> counts(16);
  constexpr int kCount = 100000;
  for (uint64_t index = 0; index < kCount; ++index) {
    const double number = random_uniform(5, index);
    BOOST_REQUIRE(number >= 0.0);
    BOOST_REQUIRE(number < 1.0);
    sum += number;
    ++counts[static_cast<size_t>(number * 16)];
  }
  BOOST_TEST(std::abs(sum / kCount - 0.5) < 0.005);  // Five standard deviations.
  for (const int count : counts) BOOST_TEST(std::abs(count - kCount / 16) < 400);
}

BOOST_AUTO_TEST_CASE(a_permutation_takes_each_number_once) {
  for (int64_t size = 1; size <= 200; ++size) {
    for (const uint64_t key : {0u, 1u, 12345u}) {
      const ArithmeticPermutation permutation(size, key);
      std::set<int64_t> images;
      for (int64_t index = 0; index < size; ++index) images.insert(permutation(index));
      BOOST_REQUIRE_EQUAL(std::ssize(images), size);
      BOOST_REQUIRE_EQUAL(*images.begin(), 0);
      BOOST_REQUIRE_EQUAL(*images.rbegin(), size - 1);
    }
  }
}

BOOST_AUTO_TEST_CASE(a_big_permutation_stays_inside_and_does_not_repeat) {
  for (const int64_t size :
       {(int64_t{1} << 20) + 1, int64_t{1} << 32, (int64_t{1} << 45) + 17, int64_t{1} << 62}) {
    const ArithmeticPermutation permutation(size, 9);
    std::set<int64_t> images;
    for (int64_t k = 0; k < 1000; ++k) {
      for (const int64_t index : {k, size - 1 - k, size / 2000 * k + 5000}) {
        const int64_t image = permutation(index);
        BOOST_REQUIRE(image >= 0);
        BOOST_REQUIRE(image < size);
        images.insert(image);
      }
    }
    BOOST_TEST(images.size() == 3000u);
  }
}

// Neighbours are thrown apart, every target is as likely as another, and keys differ.
BOOST_AUTO_TEST_CASE(a_permutation_looks_random) {
  constexpr int64_t kSize = 10000;
  const ArithmeticPermutation permutation(kSize, 3);
  const ArithmeticPermutation other(kSize, 4);
  double distance = 0.0;
  int num_equal = 0;
  std::vector<int> counts(10);
  for (int64_t index = 0; index < kSize; ++index) {
    const int64_t next = permutation((index + 1) % kSize);
    distance += static_cast<double>(std::abs(next - permutation(index)));
    num_equal += permutation(index) == other(index) ? 1 : 0;
    if (index < kSize / 10) ++counts[static_cast<size_t>(permutation(index) * 10 / kSize)];
  }
  BOOST_TEST(std::abs(distance / kSize / kSize - 1.0 / 3) < 0.02);
  BOOST_TEST(num_equal < 10);
  for (const int count : counts) BOOST_TEST(std::abs(count - kSize / 100) < 50);
}

BOOST_AUTO_TEST_CASE(small_permutations_reach_every_order) {
  std::set<std::vector<int64_t>> orders;
  for (uint64_t key = 0; key < 500; ++key) {
    const ArithmeticPermutation permutation(4, key);
    orders.insert({permutation(0), permutation(1), permutation(2), permutation(3)});
  }
  BOOST_TEST(orders.size() == 24u);
}

BOOST_AUTO_TEST_CASE(sizes_that_cannot_be_are_refused) {
  BOOST_CHECK_THROW(ArithmeticPermutation(0, 1), std::invalid_argument);
  BOOST_CHECK_THROW(ArithmeticPermutation(-1, 1), std::invalid_argument);
  BOOST_CHECK_THROW(ArithmeticPermutation((int64_t{1} << 62) + 1, 1), std::invalid_argument);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper
