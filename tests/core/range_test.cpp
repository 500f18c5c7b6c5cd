// SPDX-License-Identifier: Apache-2.0
#include "core/range.h"

#include <boost/test/unit_test.hpp>

namespace temper {
namespace {

BOOST_AUTO_TEST_SUITE(range)

BOOST_AUTO_TEST_CASE(a_range_knows_its_size) {
  BOOST_TEST((Range{3, 8}.size()) == 5);
  BOOST_TEST(!(Range{3, 4}.is_empty()));
  BOOST_TEST((Range{3, 3}.is_empty()));
  BOOST_TEST(Range{}.is_empty());
}

// By the definition: an index is in the intersection when it is in both.
BOOST_AUTO_TEST_CASE(the_intersection_is_what_both_have) {
  const auto has = [](Range range, int64_t i) { return i >= range.begin && i < range.end; };
  for (int64_t bits = 0; bits < 6 * 6 * 6 * 6; ++bits) {
    const Range a{bits % 6, bits % 6 + bits / 6 % 6};
    const Range b{bits / 36 % 6, bits / 36 % 6 + bits / 216};
    const Range both = intersection(a, b);
    BOOST_REQUIRE(both.size() >= 0);
    for (int64_t i = -1; i < 13; ++i) BOOST_REQUIRE_EQUAL(has(both, i), has(a, i) && has(b, i));
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper
