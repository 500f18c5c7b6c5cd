// SPDX-License-Identifier: Apache-2.0
// What schedule_oracle.py cannot ask transformers for: refusals, the warm-up's length, the floor of
// the linear schedule, and steps past the last.
#include "optim/schedule.h"

#include <boost/test/unit_test.hpp>
#include <stdexcept>

using temper::Schedule;
using temper::ScheduleOptions;
using Shape = temper::ScheduleOptions::Shape;

BOOST_AUTO_TEST_SUITE(schedule)

BOOST_AUTO_TEST_CASE(a_warm_up_in_steps_goes_before_one_as_a_share_of_all_steps) {
  BOOST_TEST(Schedule({.warmup_steps = 3, .warmup_ratio = 0.5}, 100).warmup_steps() == 3);
  BOOST_TEST(Schedule({.warmup_ratio = 0.031}, 100).warmup_steps() == 4);
  BOOST_TEST(Schedule({}, 100).warmup_steps() == 0);
}

BOOST_AUTO_TEST_CASE(linear_falls_to_the_floor) {
  const Schedule linear({.shape = Shape::kLinear, .warmup_steps = 10, .floor_ratio = 0.2}, 110);
  BOOST_TEST(linear.multiplier(4) == 0.5);
  BOOST_TEST(linear.multiplier(9) == 1.0);
  BOOST_TEST(linear.multiplier(10) == 1.0);
  BOOST_TEST(linear.multiplier(60) == 0.6, boost::test_tools::tolerance(1e-15));
  BOOST_TEST(linear.multiplier(110) == 0.2, boost::test_tools::tolerance(1e-15));
}

BOOST_AUTO_TEST_CASE(the_first_step_of_a_warm_up_learns) {
  for (const Shape shape : {Shape::kConstant, Shape::kLinear, Shape::kCosine, Shape::kWsd}) {
    const Schedule any({.shape = shape, .warmup_steps = 4}, 40);
    BOOST_TEST(any.multiplier(0) == 0.25);
    BOOST_TEST(any.multiplier(3) == 1.0);
  }
}

BOOST_AUTO_TEST_CASE(past_the_last_step_the_rate_stays) {
  for (const Shape shape : {Shape::kConstant, Shape::kLinear, Shape::kCosine, Shape::kWsd}) {
    const Schedule any({.shape = shape, .warmup_steps = 2, .floor_ratio = 0.1}, 40);
    BOOST_TEST(any.multiplier(41) == any.multiplier(40));
    BOOST_TEST(any.multiplier(4000) == any.multiplier(40));
  }
}

BOOST_AUTO_TEST_CASE(a_schedule_that_begins_later_is_that_of_the_steps_left) {
  for (const Shape shape : {Shape::kConstant, Shape::kLinear, Shape::kCosine, Shape::kWsd}) {
    const ScheduleOptions options{.shape = shape, .warmup_ratio = 0.1, .floor_ratio = 0.1};
    const Schedule later(options, 140, /*first_step=*/100);
    const Schedule alone(options, 40);
    BOOST_TEST(later.warmup_steps() == 4);
    for (int64_t step = 0; step < 50; ++step) {
      BOOST_TEST(later.multiplier(100 + step) == alone.multiplier(step));
    }
  }
}

BOOST_AUTO_TEST_CASE(one_step_is_a_schedule) {
  for (const Shape shape : {Shape::kConstant, Shape::kLinear, Shape::kCosine, Shape::kWsd}) {
    BOOST_TEST(Schedule({.shape = shape}, 1).multiplier(0) == 1.0);
  }
}

BOOST_AUTO_TEST_CASE(what_does_not_fit_is_refused) {
  BOOST_CHECK_THROW(Schedule({}, 0), std::invalid_argument);
  BOOST_CHECK_THROW(Schedule({.warmup_steps = -1}, 10), std::invalid_argument);
  BOOST_CHECK_THROW(Schedule({.warmup_steps = 11}, 10), std::invalid_argument);
  BOOST_CHECK_THROW(Schedule({.warmup_ratio = 1.1}, 10), std::invalid_argument);
  BOOST_CHECK_THROW(Schedule({.floor_ratio = -0.1}, 10), std::invalid_argument);
  const ScheduleOptions crowded{.shape = Shape::kWsd, .warmup_steps = 8, .decay_ratio = 0.3};
  BOOST_CHECK_THROW(Schedule(crowded, 10), std::invalid_argument);
  BOOST_CHECK_NO_THROW(Schedule(crowded, 12));
}

BOOST_AUTO_TEST_SUITE_END()
