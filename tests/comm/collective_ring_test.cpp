// SPDX-License-Identifier: Apache-2.0
#include "comm/collective_ring.h"

#include <boost/test/unit_test.hpp>

namespace temper {

BOOST_AUTO_TEST_SUITE(collective_ring)

BOOST_AUTO_TEST_CASE(a_new_one_has_no_collective) {
  const CollectiveRing ring;
  BOOST_TEST(to_text(ring.status()) == "step=0 last=\"none\"");
}

BOOST_AUTO_TEST_CASE(the_last_four_are_kept_with_what_is_under_way) {
  CollectiveRing ring;
  ring.begin_step(7);
  for (int i = 0; i < 3; ++i) ring.end(ring.begin("all_gather", 100 + i));
  const int64_t open = ring.begin("all_to_all", 512);
  ring.end(ring.begin("barrier", 0));
  BOOST_TEST(open == 4);
  BOOST_TEST(to_text(ring.status()) ==
             "step=7 last=\"#2 all_gather 101 bytes done, #3 all_gather 102 bytes done, "
             "#4 all_to_all 512 bytes under way, #5 barrier 0 bytes done\"");
}

BOOST_AUTO_TEST_CASE(the_end_of_one_that_is_forgotten_changes_nothing) {
  CollectiveRing ring;
  const int64_t first = ring.begin("first", 1);
  for (int i = 0; i < 4; ++i) ring.begin("later", 1);
  ring.end(first);
  for (const auto& one : ring.status().collectives) BOOST_TEST(one.is_done == 0);
}

BOOST_AUTO_TEST_CASE(waiting_is_not_a_ranks_own_time) {
  CollectiveRing ring;
  ring.begin_step(1);
  ring.add_waiting(1e6);
  ring.begin_step(2);
  BOOST_TEST(ring.status().own_seconds == 0.0);
  BOOST_TEST(ring.status().num_steps_timed == 1);
  ring.begin_step(9);  // A new start: no step lies between.
  BOOST_TEST(ring.status().num_steps_timed == 1);
}

BOOST_AUTO_TEST_CASE(work_of_ones_own_is_told_until_it_ends) {
  const auto told = [] { return to_text(CollectiveRing::own().status()); };
  {
    const LocalWork work("export");
    BOOST_TEST(told() == "step=0 last=\"none\" work=export");
    const double idle = CollectiveRing::own().status().idle_seconds;
    work.goes_on();
    BOOST_TEST(CollectiveRing::own().status().idle_seconds <= idle);
  }
  BOOST_TEST(told() == "step=0 last=\"none\"");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace temper
