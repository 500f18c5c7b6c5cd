// SPDX-License-Identifier: Apache-2.0
#include "core/error.h"

#include <boost/test/unit_test.hpp>
#include <string>

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

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper
