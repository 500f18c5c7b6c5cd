// SPDX-License-Identifier: Apache-2.0
#include "app/prompts.h"

#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <fstream>
#include <string>
#include <vector>

#include "core/message_text.h"
#include "io/says.h"
#include "io/temporary_folder.h"

using namespace temper;
namespace data = boost::unit_test::data;
using Prompts = std::vector<std::vector<int64_t>>;

BOOST_AUTO_TEST_SUITE(prompts)

BOOST_AUTO_TEST_CASE(a_list_on_the_command_line_is_one_prompt) {
  BOOST_TEST((read_prompts("1,22,7") == Prompts{{1, 22, 7}}));
  BOOST_TEST((read_prompts("0") == Prompts{{0}}));
  BOOST_TEST((read_prompts("1, 2") == Prompts{{1, 2}}));
}

BOOST_AUTO_TEST_CASE(a_file_has_one_prompt_a_line) {
  const TemporaryFolder folder;
  const auto path = put(folder / "prompts.txt", "1,2\n\n3\r\n \n4,5");
  BOOST_TEST((read_prompts(path) == Prompts{{1, 2}, {3}, {4, 5}}));
}

BOOST_AUTO_TEST_CASE(what_is_no_token_is_named_with_its_line) {
  const TemporaryFolder folder;
  const auto path = put(folder / "prompts.txt", "1,2\n1,two\n");
  BOOST_CHECK_EXCEPTION(read_prompts(path), ConfigError, says(", line 2: 'two' is no token id"));
}

BOOST_DATA_TEST_CASE(odd_lists_are_refused,
                     data::make({"1,,2", "1,", ",1", "1 2", "01", "99999999999"}), text) {
  BOOST_CHECK_EXCEPTION(read_prompts(text), ConfigError,
                        says("is no token id\n  try: write token ids with commas between them"));
}

BOOST_AUTO_TEST_CASE(missing_and_empty_files_are_refused) {
  const TemporaryFolder folder;
  BOOST_CHECK_EXCEPTION(read_prompts(folder / "none"), ConfigError,
                        says("none' cannot be read: No such file or directory"));
  BOOST_CHECK_EXCEPTION(read_prompts(put(folder / "empty", "\n\n")), ConfigError,
                        says("empty has no prompt"));
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(readable)

BOOST_AUTO_TEST_CASE(numbers_have_three_digits_and_a_unit) {
  BOOST_TEST(readable_bytes(0) == "0 bytes");
  BOOST_TEST(readable_bytes(999) == "999 bytes");
  BOOST_TEST(readable_bytes(1000) == "1.00 kB");
  BOOST_TEST(readable_bytes(1'530'000'000) == "1.53 GB");
  BOOST_TEST(readable_bytes(999'999) == "1.00 MB");
  BOOST_TEST(readable_bytes(45'600'000'000'000) == "45.6 TB");
  BOOST_TEST(readable_count(134'515'008) == "135 M");
  BOOST_TEST(readable_count(7) == "7");
}

BOOST_AUTO_TEST_SUITE_END()
