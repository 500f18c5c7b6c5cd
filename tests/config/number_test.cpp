// SPDX-License-Identifier: Apache-2.0
#include "config/number.h"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

using namespace temper;
namespace data = boost::unit_test::data;

BOOST_AUTO_TEST_SUITE(number)

struct Whole {
  std::string text;
  int64_t value;
};
std::ostream& operator<<(std::ostream& out, const Whole& one) { return out << one.text; }

const std::vector<Whole> kWhole = {{"0", 0},
                                   {"7", 7},
                                   {"-3", -3},
                                   {"1e5", 100000},
                                   {"1E+5", 100000},
                                   {"2.5e3", 2500},
                                   {"3.0", 3},
                                   {"30e-1", 3},
                                   {"0e9999", 0},
                                   {"9223372036854775807", INT64_MAX},
                                   {"-9223372036854775808", INT64_MIN}};

BOOST_DATA_TEST_CASE(whole_numbers_are_read_exactly, data::make(kWhole), whole) {
  const auto parsed = parse_integer(whole.text);
  BOOST_REQUIRE(parsed.value.has_value());
  BOOST_TEST(*parsed.value == whole.value);
}

struct Refused {
  std::string text, advice;
};
std::ostream& operator<<(std::ostream& out, const Refused& one) { return out << one.text; }

const std::vector<Refused> kRefused = {{"010", "write 10"},
                                       {"-007", ""},
                                       {"0x10", "write it in base ten: 16"},
                                       {"0o17", "write it in base ten: 15"},
                                       {"0b11", "write it in base ten: 3"},
                                       {"1_000", "write 1000"},
                                       {"1,000", "write 1000"},
                                       {"+5", "write 5"},
                                       {".5", "write 0.5"},
                                       {"5.", "write 5"},
                                       {"-0", "write 0"},
                                       {"-0.0", "write 0"},
                                       {".nan", "write a finite number"},
                                       {".NaN", "write a finite number"},
                                       {".inf", "write a finite number"},
                                       {"-.inf", "write a finite number"},
                                       {"inf", "write a finite number"},
                                       {"yes", ""},
                                       {"1:30", ""},
                                       {"1e", ""},
                                       {"1e99999", ""},
                                       {"ten", ""},
                                       {"1 2", ""},
                                       {"", ""}};

BOOST_DATA_TEST_CASE(other_notations_are_refused_with_what_to_write, data::make(kRefused),
                     refused) {
  const auto integer = parse_integer(refused.text);
  BOOST_TEST(!integer.value.has_value());
  BOOST_TEST(integer.advice == refused.advice);
  const auto real = parse_real(refused.text);
  BOOST_TEST(!real.value.has_value());
  BOOST_TEST(real.advice == refused.advice);
}

BOOST_DATA_TEST_CASE(numbers_that_are_not_whole_are_no_integers,
                     data::make({"0.5", "1e-1", "1.5e0", "1.00000000000000000001",
                                 "9223372036854775808", "1e19", "1e400", "1e9999"}),
                     text) {
  BOOST_TEST(!parse_integer(text).value.has_value());
}

BOOST_AUTO_TEST_CASE(reals_are_read_as_the_nearest_double) {
  BOOST_TEST(*parse_real("0.1").value == 0.1);
  BOOST_TEST(*parse_real("2e-5").value == 2e-5);
  BOOST_TEST(*parse_real("1.0e-4").value == 1e-4);
  BOOST_TEST(*parse_real("-3").value == -3.0);
  BOOST_TEST(*parse_real("0").value == 0.0);
}

BOOST_DATA_TEST_CASE(numbers_beyond_double_precision_are_refused,
                     data::make({"1e400", "-1e400", "1e-400"}), text) {
  const auto parsed = parse_real(text);
  BOOST_TEST(!parsed.value.has_value());
  BOOST_TEST(parsed.advice == "write a number that fits into double precision");
}

BOOST_DATA_TEST_CASE(the_shortest_text_reads_as_the_same_number,
                     data::make({0.1, 1.0 / 3.0, 2e-5, 5e-324, 1.7976931348623157e308, 1.0, 0.0,
                                 1e21, -12.5}),
                     number) {
  const auto parsed = parse_real(shortest_text(number));
  BOOST_REQUIRE(parsed.value.has_value());
  BOOST_TEST(*parsed.value == number);
}

BOOST_AUTO_TEST_SUITE_END()
