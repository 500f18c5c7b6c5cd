// SPDX-License-Identifier: Apache-2.0
#include "io/shard_set.h"

#include <boost/test/unit_test.hpp>
#include <fstream>

#include "core/error.h"
#include "io/says.h"
#include "io/temporary_folder.h"

namespace temper {
namespace {

struct Fixture {
  void make(const std::vector<std::string>& names) {
    for (const std::string& name : names) {
      std::filesystem::create_directories((folder / name).parent_path());
      std::ofstream(folder / name) << name;
    }
  }

  void make_parts(const std::string& before, int count, const std::string& of_count) {
    for (int k = 0; k < count; ++k) make({before + "0000" + std::to_string(k) + of_count});
  }

  ShardSet find(const std::string& pattern) const { return find_shards(folder / pattern); }

  std::vector<std::string> names(const std::string& pattern) const {
    std::vector<std::string> found;
    for (const auto& file : find(pattern).files) {
      found.push_back(std::filesystem::relative(file, folder / "").string());
    }
    return found;
  }

  void expect_refusal(const std::string& pattern, const std::string& message) const {
    BOOST_CHECK_EXCEPTION(find(pattern), DataError, says(message));
  }

  TemporaryFolder folder;
};

using Names = std::vector<std::string>;

BOOST_FIXTURE_TEST_SUITE(shard_set, Fixture)

BOOST_AUTO_TEST_CASE(a_path_is_one_file_whether_it_is_there_or_not) {
  make({"a.h5", "b[1].h5"});
  BOOST_TEST(names("a.h5") == Names{"a.h5"});
  BOOST_TEST(names("none.h5") == Names{"none.h5"});
  BOOST_TEST(names("b[1].h5") == Names{"b[1].h5"});  // Not b1.h5.
  BOOST_TEST(find("a.h5").name == (folder / "a.h5").string());
}

BOOST_AUTO_TEST_CASE(plain_files_come_in_the_order_of_their_bytes) {
  make({"x/b.h5", "x/B.h5", "x/a10.h5", "x/a9.h5", "x/.hidden.h5", "x/report.json"});
  BOOST_TEST(names("x/*.h5") == (Names{"x/B.h5", "x/a10.h5", "x/a9.h5", "x/b.h5"}),
             boost::test_tools::per_element());
  BOOST_TEST(names("x/a?.h5") == Names{"x/a9.h5"});
  BOOST_TEST(find("x/*.h5").name == (folder / "x/*.h5").string());
}

BOOST_AUTO_TEST_CASE(a_whole_set_comes_in_the_order_of_its_numbers) {
  make({"b/train-00000-of-00003.h5", "a/train-00002-of-00003.h5", "a/train-00001-of-00003.h5"});
  BOOST_TEST(
      names("*/train-*.h5") == (Names{"b/train-00000-of-00003.h5", "a/train-00001-of-00003.h5",
                                      "a/train-00002-of-00003.h5"}),
      boost::test_tools::per_element());
  make({"one/train-00000-of-00001.h5"});
  BOOST_TEST(names("one/train-00000-of-00001.h5").size() == 1u);
}

BOOST_AUTO_TEST_CASE(no_file_at_all_is_refused) {
  expect_refusal("*.h5", "no token shard matches " + (folder / "*.h5").string());
  expect_refusal("none/*.h5", "\n  try: check the path, or make the shards");
}

BOOST_AUTO_TEST_CASE(a_missing_part_is_named) {
  make_parts("train-", 3, "-of-00004.h5");
  expect_refusal("train-*.h5",
                 "train-*.h5 matches 3 of a set of 4 parts; missing: "
                 "train-00003-of-00004.h5\n  try: prepare or copy the missing parts");
  make_parts("big-", 1, "-of-00070.h5");
  expect_refusal("big-*",
                 "matches 1 of a set of 70 parts; missing: big-00001-of-00070.h5, "
                 "big-00002-of-00070.h5, big-00003-of-00070.h5 and 66 more\n");
}

BOOST_AUTO_TEST_CASE(a_part_that_is_there_twice_is_refused) {
  make({"a/train-00000-of-00002.h5", "a/train-00001-of-00002.h5", "b/train-00001-of-00002.h5"});
  expect_refusal("*/*.h5", "/*.h5 matches part 1 of 2 twice: ");
  expect_refusal("*/*.h5", "b/train-00001-of-00002.h5\n  try: keep one of them");
}

BOOST_AUTO_TEST_CASE(files_of_several_sets_are_refused) {
  make_parts("two/train-", 2, "-of-00002.h5");
  make_parts("two/train-", 3, "-of-00003.h5");
  expect_refusal("two/*.h5", "two/*.h5 matches files that do not belong together: ");
  expect_refusal("two/*.h5", "train-00000-of-00002.h5 and ");
  expect_refusal("two/*.h5", "two/train-*-of-00002.h5, or remove what an earlier preparation left");
  make_parts("kinds/train-", 2, "-of-00002.h5");
  make_parts("kinds/holdout-", 2, "-of-00002.h5");
  expect_refusal("kinds/*.h5", "holdout-00000-of-00002.h5 and ");
  make_parts("left/train-", 2, "-of-00002.h5");
  make({"left/train.h5"});
  expect_refusal("left/*.h5", "left/train.h5\n  try: write a path that matches one set");
}

BOOST_AUTO_TEST_CASE(a_number_beyond_the_set_is_refused) {
  make({"train-00001-of-00002.h5", "train-00002-of-00002.h5"});
  expect_refusal("*.h5", "train-00002-of-00002.h5 is numbered beyond its set of 2 parts");
}

BOOST_AUTO_TEST_CASE(one_part_alone_is_not_taken_for_the_corpus) {
  make_parts("train-", 2, "-of-00002.h5");
  expect_refusal("train-00001-of-00002.h5",
                 "train-00001-of-00002.h5 is part 1 of a set of 2: the others would not be read");
  expect_refusal("train-00001-of-00002.h5",
                 "try: write " + (folder / "train-*-of-00002.h5").string());
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper
