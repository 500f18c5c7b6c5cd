// SPDX-License-Identifier: Apache-2.0
#include "train/time_limit.h"

#include <boost/test/unit_test.hpp>
#include <cmath>
#include <optional>
#include <string>

#include "train/run_timing.h"

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
  TimeLimit time(100.0, 30.0);
  BOOST_TEST(time.save_seconds() == 30.0);
  time.add_save(0.0);  // None yet.
  BOOST_TEST(time.save_seconds() == 30.0);
  time.add_save(20.0);
  BOOST_TEST(time.save_seconds() == 20.0);
  BOOST_TEST(!time.is_up());
  time.add_save(90.0);
  time.add_save(30.0);
  BOOST_TEST(time.save_seconds() == 90.0);
  BOOST_TEST(time.is_up());
  BOOST_TEST(time.allows_save());
  time.add_save(101.0);
  BOOST_TEST(!time.allows_save());
}

// What was expected may be wrong: the job begins all the same, and what it measures counts.
BOOST_AUTO_TEST_CASE(no_expectation_ends_a_job_before_its_first_step) {
  for (const double expected : {200.0, 1e6}) {
    TimeLimit time(100.0, expected);
    BOOST_TEST(std::abs(time.save_seconds() - 100.0 / 3.0) < 1e-9);
    BOOST_TEST(!time.is_up());
    BOOST_TEST(time.allows_save());
    time.add_step(30.0);
    BOOST_TEST(!time.is_up());
    time.add_step(33.0);
    BOOST_TEST(time.is_up());
    time.add_save(70.0);
    BOOST_TEST(time.is_up());
    BOOST_TEST(time.allows_save());
  }
  BOOST_TEST(TimeLimit(-5.0, 10.0).is_up());
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(run_timing)

constexpr RunTiming kPast{{4, 32}, 1000, 60.0, 10.0};

BOOST_AUTO_TEST_CASE(it_is_read_as_it_was_written) {
  const std::optional<RunTiming> read = parse_run_timing(to_json(kPast));
  BOOST_REQUIRE(read.has_value());
  BOOST_TEST(read->shape.num_nodes == 4);
  BOOST_TEST(read->shape.num_ranks == 32);
  BOOST_TEST(read->checkpoint_bytes == 1000);
  BOOST_TEST(read->save_seconds == 60.0);
  BOOST_TEST(read->step_seconds == 10.0);
}

BOOST_AUTO_TEST_CASE(what_it_did_not_write_is_no_measurement) {
  std::string negative = to_json(kPast), text = negative, absent = negative;
  negative.replace(negative.find("60.0"), 4, "-6.0");
  text.replace(text.find("60.0"), 4, "\"60\"");
  absent.replace(absent.find("num_ranks"), 9, "num_nanks");
  for (const std::string& bad :
       {std::string(), std::string("[]"), std::string("{\"num_nodes\""), negative, text, absent}) {
    BOOST_TEST(!parse_run_timing(bad).has_value(), bad);
  }
}

BOOST_AUTO_TEST_CASE(fewer_nodes_and_ranks_take_longer_and_more_take_as_long) {
  const auto save = [](int64_t bytes, int64_t nodes) {
    return expect_timing(bytes, {nodes, 8 * nodes}, kPast).save_seconds;
  };
  BOOST_TEST(save(1000, 4) == 60.0);
  BOOST_TEST(save(1000, 1) == 240.0);
  BOOST_TEST(save(1000, 64) == 60.0);
  BOOST_TEST(save(500, 4) == 30.0);
  BOOST_TEST(expect_timing(1000, {1, 8}, kPast).step_seconds == 40.0);
  BOOST_TEST(expect_timing(1000, {8, 64}, kPast).step_seconds == 10.0);
  BOOST_TEST(expect_timing(1000, {1, 8}, kPast).is_measured);
  BOOST_TEST(!expect_timing(1000, {1, 8}, {}).is_measured);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace temper
