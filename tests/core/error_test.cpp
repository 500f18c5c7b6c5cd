// SPDX-License-Identifier: Apache-2.0
#include "core/error.h"

#include <boost/test/unit_test.hpp>
#include <string>
#include <vector>

#include "core/message_text.h"

namespace temper {
namespace {

BOOST_AUTO_TEST_SUITE(error)

BOOST_AUTO_TEST_CASE(an_error_says_what_is_wrong_and_what_to_try) {
  const DataError error("shard.h5 is torn", "copy it again");
  BOOST_TEST(std::string(error.what()) == "shard.h5 is torn\n  try: copy it again");
}

// A problem or a remedy may itself hold what joins the two.
BOOST_AUTO_TEST_CASE(problem_and_remedy_stay_apart) {
  const DataError error("a\n  try: b", "c\n  try: d");
  BOOST_TEST(error.problem() == "a\n  try: b");
  BOOST_TEST(error.remedy() == "c\n  try: d");
}

BOOST_AUTO_TEST_CASE(each_kind_ends_the_process_with_its_own_code) {
  BOOST_TEST((ConfigError("", "").code() == ExitCode::kConfiguration));
  BOOST_TEST((DataError("", "").code() == ExitCode::kData));
  BOOST_TEST((ModelError("", "").code() == ExitCode::kModel));
  BOOST_TEST((CheckpointError("", "").code() == ExitCode::kCheckpoint));
  BOOST_TEST((CommError("", "").code() == ExitCode::kComm));
}

BOOST_AUTO_TEST_CASE(names_in_messages_are_few_short_and_printable) {
  BOOST_TEST(quote_if_needed("a b") == "a b");
  BOOST_TEST(quote_if_needed("a\nb") == "'a\\nb'");
  BOOST_TEST(quote_if_needed(std::string(100, 'x')).size() < 70u);
  BOOST_TEST(list_names({}) == "");
  BOOST_TEST(list_names({"a", "b\t"}) == "a, 'b\\t'");
  const std::string many = list_names(std::vector<std::string>(25, "key"));
  BOOST_TEST(many.ends_with(", key and 5 more"));
  BOOST_TEST(to_lower_ascii("LICENSE-Ä.txt") == "license-Ä.txt");
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper
