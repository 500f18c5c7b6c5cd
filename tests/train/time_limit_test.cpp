// SPDX-License-Identifier: Apache-2.0
#include "train/time_limit.h"

#include <boost/test/unit_test.hpp>

namespace temper {

BOOST_AUTO_TEST_SUITE(time_limit)

BOOST_AUTO_TEST_CASE(without_an_end_there_is_always_time) {
  TimeLimit time;
  time.add_step(1e9);
  time.add_save(1e9);
  BOOST_TEST(!time.is_up());
  BOOST_TEST(time.allows_save());
}

// 100 s are left; 1.5 times the longest step and save, and 2 s, must fit.
BOOST_AUTO_TEST_CASE(it_is_up_when_no_step_and_save_fit_any_more) {
  TimeLimit time(100.0, 10.0);
  BOOST_TEST(!time.is_up());
  time.add_step(55.0);
  BOOST_TEST(!time.is_up());
  time.add_step(56.0);
  BOOST_TEST(time.is_up());
}

BOOST_AUTO_TEST_CASE(the_first_save_replaces_what_was_expected_and_the_longest_counts) {
  TimeLimit time(100.0, 200.0);
  BOOST_TEST(time.is_up());
  BOOST_TEST(!time.allows_save());
  time.add_save(0.0);  // None yet.
  BOOST_TEST(!time.allows_save());
  time.add_save(20.0);
  BOOST_TEST(time.allows_save());
  BOOST_TEST(!time.is_up());
  time.add_save(90.0);
  time.add_save(30.0);
  BOOST_TEST(time.save_seconds() == 90.0);
  BOOST_TEST(time.is_up());
  BOOST_TEST(time.allows_save());
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace temper
