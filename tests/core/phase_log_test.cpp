// SPDX-License-Identifier: Apache-2.0
#include "core/phase_log.h"

#include <boost/test/unit_test.hpp>
#include <thread>

#include "core/clock.h"

namespace temper {
namespace {

void spend(double seconds) {
  const Stopwatch watch;
  while (watch.seconds() < seconds) {
  }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(phase_log)

BOOST_AUTO_TEST_CASE(a_phase_within_another_counts_for_itself) {
  PhaseLog::own().take_seconds();
  const Stopwatch watch;
  {
    const Phase outer("outer");
    spend(0.002);
    const Phase inner("inner");
    spend(0.004);
    std::thread([] { const Phase elsewhere("elsewhere"); }).join();
  }
  const double whole = watch.seconds();
  const auto seconds = PhaseLog::own().take_seconds();
  BOOST_REQUIRE(seconds.size() == 2u);
  BOOST_TEST(seconds.at("outer") >= 0.002);
  BOOST_TEST(seconds.at("inner") >= 0.004);
  BOOST_TEST(seconds.at("outer") + seconds.at("inner") <= whole);
  BOOST_TEST(PhaseLog::own().take_seconds().empty());
}

BOOST_AUTO_TEST_CASE(stretches_are_kept_while_they_are_asked_for) {
  PhaseLog& log = PhaseLog::own();
  { const Phase before("before"); }
  BOOST_TEST(log.take_events().empty());
  log.record(true);
  {
    const Phase outer("outer");
    const TracedBlock block("block", 7);
  }
  log.record(false);
  { const Phase after("after"); }
  const auto events = log.take_events();
  BOOST_REQUIRE(events.size() == 2u);
  BOOST_TEST(events[0].name == std::string("block"));
  BOOST_TEST(events[0].number == 7);
  BOOST_TEST(events[1].name == std::string("outer"));
  BOOST_TEST(events[1].begin_microseconds <= events[0].begin_microseconds);
  BOOST_TEST(events[1].microseconds >= events[0].microseconds);
}

BOOST_AUTO_TEST_CASE(a_trace_is_what_chrome_opens) {
  const std::string trace = to_chrome_trace({{"block", 3, 1.5, 1234567.0625}}, 2);
  BOOST_TEST(trace ==
             "{\"displayTimeUnit\": \"ms\", \"traceEvents\": [\n"
             "{\"name\": \"process_name\", \"ph\": \"M\", \"pid\": 2, \"tid\": 0, "
             "\"args\": {\"name\": \"rank 2\"}},\n"
             "{\"name\": \"block 3\", \"cat\": \"block\", \"ph\": \"X\", \"ts\": 1.500, "
             "\"dur\": 1234567.062, \"pid\": 2, \"tid\": 0}\n]}\n");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace temper
