// SPDX-License-Identifier: Apache-2.0
#include <boost/test/unit_test.hpp>
#include <random>
#include <stdexcept>

#include "data/row_plan.h"

namespace temper {
namespace {

using Rows = std::vector<std::vector<int64_t>>;

// Best fit decreasing by its definition, in quadratic time: every document looks at every row.
// TRL keeps rows of one room in a queue, so the one that got this room first is taken first.
Rows packed_by_definition(const std::vector<int64_t>& lengths, int64_t capacity) {
  struct Row {
    std::vector<int64_t> documents;
    int64_t room;
    int64_t since;
  };
  std::vector<Row> rows;
  int64_t now = 0;
  for (int64_t length = capacity; length > 0; --length) {
    for (size_t document = 0; document < lengths.size(); ++document) {
      if (lengths[document] != length) continue;
      Row* best = nullptr;
      for (Row& row : rows) {
        if (row.room < length) continue;
        const bool is_better = best == nullptr || row.room < best->room ||
                               (row.room == best->room && row.since < best->since);
        if (is_better) best = &row;
      }
      if (best == nullptr) best = &rows.emplace_back(Row{{}, capacity, 0});
      best->documents.push_back(static_cast<int64_t>(document));
      best->room -= length;
      best->since = ++now;
    }
  }
  Rows result;
  for (Row& row : rows) result.push_back(std::move(row.documents));
  return result;
}

BOOST_AUTO_TEST_SUITE(packing)

BOOST_AUTO_TEST_CASE(documents_go_into_the_fullest_row_that_fits) {
  // Rows open at 7, 6 and 5; the 3 goes beside the 7, one 2 leaves the 6 full by half, and so on.
  BOOST_TEST(
      (pack_best_fit(std::vector<int64_t>{2, 7, 3, 6, 5, 2}, 10) == Rows{{1, 2}, {3, 0, 5}, {4}}));
  BOOST_TEST((pack_best_fit(std::vector<int64_t>{4, 4, 4}, 4) == Rows{{0}, {1}, {2}}));
  BOOST_TEST((pack_best_fit(std::vector<int64_t>{1, 1, 1}, 4) == Rows{{0, 1, 2}}));
  BOOST_TEST(pack_best_fit({}, 4).empty());
}

BOOST_AUTO_TEST_CASE(any_documents_are_packed_as_the_definition_says) {
  std::mt19937 random(1);
  for (int trial = 0; trial < 300; ++trial) {
    const auto capacity = static_cast<int64_t>(1 + random() % 60);
    std::vector<int64_t> lengths(random() % 120);
    for (int64_t& length : lengths) length = 1 + static_cast<int64_t>(random()) % capacity;
    BOOST_REQUIRE((pack_best_fit(lengths, capacity) == packed_by_definition(lengths, capacity)));
  }
}

BOOST_AUTO_TEST_CASE(a_million_documents_are_packed_at_once) {
  std::vector<int64_t> lengths(1000000);
  int64_t total = 0;
  for (size_t i = 0; i < lengths.size(); ++i) {
    lengths[i] = 1 + static_cast<int64_t>(i * 7919 % 700);
    total += lengths[i];
  }
  const Rows rows = pack_best_fit(lengths, 2048);
  BOOST_TEST(std::ssize(rows) * 2048 < total + total / 1000);  // Less than 0.1 % stays empty.
}

BOOST_AUTO_TEST_CASE(lengths_that_fit_no_row_are_refused) {
  BOOST_CHECK_THROW(pack_best_fit(std::vector<int64_t>{3, 5}, 4), std::invalid_argument);
  BOOST_CHECK_THROW(pack_best_fit(std::vector<int64_t>{0}, 4), std::invalid_argument);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper
