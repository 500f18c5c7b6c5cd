// SPDX-License-Identifier: Apache-2.0
#include "data/turns.h"

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cstdint>
#include <stdexcept>
#include <tuple>

namespace temper {
namespace {

BOOST_AUTO_TEST_SUITE(turns)

// By sorting all turns of an epoch, which `EvenTurns` does not.
std::vector<Turn> sorted_turns(const std::vector<int64_t>& counts) {
  std::vector<std::tuple<long double, int, int64_t>> times;
  for (size_t source = 0; source < counts.size(); ++source) {
    for (int64_t nth = 0; nth < counts[source]; ++nth) {
      const auto numerator = static_cast<long double>(2 * nth + 1);
      times.emplace_back(numerator / static_cast<long double>(2 * counts[source]),
                         static_cast<int>(source), nth);
    }
  }
  std::sort(times.begin(), times.end());
  std::vector<Turn> turns;
  for (const auto& [time, source, nth] : times) turns.push_back({source, nth});
  return turns;
}

BOOST_AUTO_TEST_CASE(any_turn_is_that_of_the_sorted_epoch) {
  const std::vector<std::vector<int64_t>> cases = {
      {1}, {7}, {1, 1}, {3, 1}, {1, 1000}, {5, 5, 5}, {16, 1, 4, 997, 3, 64, 1, 1, 1, 250}};
  for (const auto& counts : cases) {
    const EvenTurns turns(counts);
    const std::vector<Turn> wanted = sorted_turns(counts);
    BOOST_REQUIRE_EQUAL(turns.turns_per_epoch(), std::ssize(wanted));
    std::vector<int64_t> seen(counts.size());
    for (int64_t index = 0; index < 3 * std::ssize(wanted); ++index) {
      BOOST_REQUIRE((turns.counts(index) == seen));
      const Turn turn = turns.turn(index);
      const Turn& one = wanted[static_cast<size_t>(index % std::ssize(wanted))];
      BOOST_REQUIRE_EQUAL(turn.source, one.source);
      BOOST_REQUIRE_EQUAL(turn.nth, seen[static_cast<size_t>(turn.source)]++);
    }
  }
}

BOOST_AUTO_TEST_CASE(far_turns_of_large_epochs_are_exact) {
  const int64_t large = 3'000'000'000'000;
  const EvenTurns turns({large, 1, large / 3});
  const Turn middle = turns.turn(turns.turns_per_epoch() / 2);
  BOOST_TEST(middle.source == 1);  // The only one stands in the middle.
  BOOST_TEST(middle.nth == 0);
  const std::vector<int64_t> all = turns.counts(turns.turns_per_epoch());
  BOOST_TEST((all == std::vector<int64_t>{large, 1, large / 3}));
}

BOOST_AUTO_TEST_CASE(a_source_without_a_turn_is_our_bug) {
  BOOST_CHECK_THROW(EvenTurns({3, 0}), std::invalid_argument);
  BOOST_CHECK_THROW(EvenTurns({}), std::invalid_argument);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper
