// SPDX-License-Identifier: Apache-2.0
#include "data/row_source.h"

#include <boost/test/unit_test.hpp>

#include "core/targets.h"
#include "io/says.h"
#include "io/shard_file.h"
#include "io/temporary_folder.h"

namespace temper {
namespace {

using Numbers = std::vector<int64_t>;
constexpr int64_t kNone = kNoTarget;

struct Fixture {
  RowSource source(const ShardContent& content, int64_t sequence_length) {
    return RowSource(find_shards(write_shard(folder / "shard.h5", content)), sequence_length,
                     ModelFacts{});
  }

  TemporaryFolder folder;
};

MicroBatch row_of(const RowSource& source, int64_t row) {
  MicroBatch batch;
  source.append_row(row, batch);
  return batch;
}

void expect(const MicroBatch& batch, const Numbers& tokens, const Numbers& positions,
            const Numbers& targets, const Numbers& document_begins) {
  BOOST_TEST(batch.tokens == tokens, boost::test_tools::per_element());
  BOOST_TEST(batch.positions == positions, boost::test_tools::per_element());
  BOOST_TEST(batch.targets == targets, boost::test_tools::per_element());
  BOOST_TEST(batch.document_begins == document_begins, boost::test_tools::per_element());
  const auto num_targets =
      std::ssize(targets) - std::count(targets.begin(), targets.end(), kNoTarget);
  BOOST_TEST(batch.num_targets == num_targets);
}

BOOST_FIXTURE_TEST_SUITE(row_source, Fixture)

BOOST_AUTO_TEST_CASE(text_is_cut_in_rows_and_predicts_over_their_ends) {
  ShardContent content;
  content.documents = {{10, 11, 12}, {20, 21, 22, 23, 24, 25, 26}, {30, 31}};
  const RowSource rows = source(content, 4);
  BOOST_TEST(rows.num_rows() == 3);
  BOOST_TEST(rows.num_tokens() == 12);
  // The first document ends inside the row, the second goes on in the next one.
  expect(row_of(rows, 0), {10, 11, 12, 20}, {0, 1, 2, 0}, {11, 12, kNone, 21}, {0, 3, 4});
  // All of one document, which goes on; its positions start again.
  expect(row_of(rows, 1), {21, 22, 23, 24}, {0, 1, 2, 3}, {22, 23, 24, 25}, {0, 4});
  expect(row_of(rows, 2), {25, 26, 30, 31}, {0, 1, 0, 1}, {26, kNone, 31, kNone}, {0, 2, 4});
  BOOST_TEST(row_of(rows, 0).documents == (Numbers{0, 1}), boost::test_tools::per_element());
  BOOST_TEST(row_of(rows, 1).documents == (Numbers{1}), boost::test_tools::per_element());
  BOOST_TEST(row_of(rows, 2).documents == (Numbers{1, 2}), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(a_document_that_ends_with_its_row_predicts_nothing_beyond) {
  ShardContent content;
  content.documents = {{10, 11}, {20, 21, 22}, {30}};
  const RowSource rows = source(content, 2);
  BOOST_TEST(rows.num_rows() == 3);
  expect(row_of(rows, 0), {10, 11}, {0, 1}, {11, kNone}, {0, 2});
  expect(row_of(rows, 1), {20, 21}, {0, 1}, {21, 22}, {0, 2});
  expect(row_of(rows, 2), {22, 30}, {0, 0}, {kNone, kNone}, {0, 1, 2});
  const RowSource long_rows = source(content, 5);  // The last row is shorter.
  BOOST_TEST(long_rows.num_rows() == 2);
  expect(row_of(long_rows, 1), {30}, {0}, {kNone}, {0, 1});
}

BOOST_AUTO_TEST_CASE(rows_of_text_have_each_token_and_each_target_once) {
  const ShardContent content = counting_documents(200, 23);
  for (const int64_t sequence_length : {1, 2, 7, 64, 100000}) {
    const RowSource rows = source(content, sequence_length);
    MicroBatch all;
    for (int64_t row = 0; row < rows.num_rows(); ++row) rows.append_row(row, all);
    Numbers tokens;
    for (const auto& document : content.documents) {
      tokens.insert(tokens.end(), document.begin(), document.end());
    }
    BOOST_TEST((all.tokens == tokens));
    BOOST_TEST(all.num_targets == rows.corpus().num_targets());
  }
}

BOOST_AUTO_TEST_CASE(conversations_are_packed_cut_and_masked) {
  ShardContent content;
  content.documents = {{10, 11, 12, 13, 14, 15}, {20, 21, 22, 23, 24}, {30, 31}, {40, 41, 42}};
  content.masks = {{0, 0, 1, 0, 1, 1}, {0, 0, 0, 0, 1}, {0, 1}, {0, 1, 1}};
  const RowSource rows = source(content, 4);
  BOOST_TEST(rows.num_rows() == 3);
  BOOST_TEST(rows.num_truncated() == 2);
  BOOST_TEST(rows.num_without_target() == 1);  // Document 1 lost its only target.
  BOOST_TEST(rows.num_tokens() == 4 + 2 + 3);
  expect(row_of(rows, 0), {10, 11, 12, 13}, {0, 1, 2, 3}, {kNone, 12, kNone, kNone}, {0, 4});
  expect(row_of(rows, 1), {40, 41, 42}, {0, 1, 2}, {41, 42, kNone}, {0, 3});
  expect(row_of(rows, 2), {30, 31}, {0, 1}, {31, kNone}, {0, 2});
  const RowSource long_rows = source(content, 8);
  BOOST_TEST(long_rows.num_rows() == 2);
  expect(row_of(long_rows, 1), {20, 21, 22, 23, 24, 40, 41, 42}, {0, 1, 2, 3, 4, 0, 1, 2},
         {kNone, kNone, kNone, 24, kNone, 41, 42, kNone}, {0, 5, 8});
}

BOOST_AUTO_TEST_CASE(rows_of_conversations_have_each_document_once) {
  const ShardContent content = counting_conversations(1500, 40);  // More than a page of offsets.
  const RowSource rows = source(content, 64);
  MicroBatch all;
  for (int64_t row = 0; row < rows.num_rows(); ++row) {
    rows.append_row(row, all);
    BOOST_REQUIRE(std::ssize(row_of(rows, row).tokens) <= 64);
  }
  BOOST_TEST(std::ssize(all.document_begins) == 1501);
  BOOST_TEST(std::ssize(all.tokens) == rows.num_tokens());
  BOOST_TEST(all.num_targets == rows.corpus().num_targets());
}

BOOST_AUTO_TEST_CASE(rows_are_appended_behind_each_other) {
  ShardContent content;
  content.documents = {{10, 11, 12}, {20, 21}};
  const RowSource rows = source(content, 3);
  MicroBatch batch;
  rows.append_row(1, batch);
  rows.append_row(0, batch);
  expect(batch, {20, 21, 10, 11, 12}, {0, 1, 0, 1, 2}, {21, kNone, 11, 12, kNone}, {0, 2, 5});
}

BOOST_AUTO_TEST_CASE(conversations_that_lose_all_targets_are_refused) {
  ShardContent content;
  content.documents = {{10, 11, 12, 13}};
  content.masks = {{0, 0, 0, 1}};
  BOOST_CHECK_EXCEPTION(source(content, 3), DataError,
                        says("shard.h5 has no target within the first 3 tokens of any document\n"
                             "  try: raise data.sequence_length"));
  BOOST_CHECK_THROW(source(content, 0), std::invalid_argument);
}

BOOST_AUTO_TEST_CASE(there_are_no_rows_beyond_the_last) {
  const RowSource text = source(counting_documents(5, 9), 8);
  MicroBatch batch;
  BOOST_CHECK_THROW(text.append_row(text.num_rows(), batch), std::logic_error);
  const RowSource chat = source(counting_conversations(5, 9), 8);
  BOOST_CHECK_THROW(chat.append_row(chat.num_rows(), batch), std::logic_error);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper
