// SPDX-License-Identifier: Apache-2.0
#include "app/allocation_end.h"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <cstdlib>
#include <tuple>
#include <vector>

namespace temper {
namespace {

namespace data = boost::unit_test::data;
using Pair = std::tuple<const char*, int64_t>;

// As squeue's manual has the format of %L; -1: no time.
const std::vector<Pair> kTimes = {
    {"59", 59},  {"1:01", 61},      {"1:00:00", 3600}, {"2-03:04:05", 183845},
    {"0:00", 0}, {"UNLIMITED", -1}, {"NOT_SET", -1},   {"INVALID", -1},
    {"", -1},    {"1:", -1},        {"-1:00", -1},     {"1-", -1},
};

// As sbatch's manual has the formats of --time.
const std::vector<Pair> kLimits = {
    {"90", 5400},     {"2:30", 150},     {"8:00:00", 28800},
    {"1-12", 129600}, {"1-2:30", 95400}, {"2-03:04:05", 183845},
    {"0", 0},         {"UNLIMITED", -1}, {"1:2:3:4", -1},
    {"", -1},         {"1-", -1},        {":30", -1},
};

}  // namespace

BOOST_AUTO_TEST_SUITE(allocation_end)

BOOST_DATA_TEST_CASE(limits_of_sbatch_are_read, data::make(kLimits), text, seconds) {
  BOOST_TEST(parse_time_limit(text).value_or(-1) == seconds);
}

BOOST_DATA_TEST_CASE(times_of_squeue_are_read, data::make(kTimes), text, seconds) {
  BOOST_TEST(parse_time_left(text).value_or(-1) == seconds);
}

BOOST_AUTO_TEST_CASE(the_environment_comes_first) {
  ::setenv("SLURM_JOB_END_TIME", "1700000000", 1);
  const auto end = find_allocation_end();
  ::unsetenv("SLURM_JOB_END_TIME");
  BOOST_REQUIRE(end.has_value());
  BOOST_TEST(std::chrono::system_clock::to_time_t(*end) == 1'700'000'000);
}

BOOST_AUTO_TEST_CASE(outside_a_job_there_is_no_end) {
  ::unsetenv("SLURM_JOB_ID");
  BOOST_TEST(!find_allocation_end().has_value());
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace temper
