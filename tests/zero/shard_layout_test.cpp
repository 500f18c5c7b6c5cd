// SPDX-License-Identifier: Apache-2.0
#include "zero/shard_layout.h"

#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

namespace temper {
namespace {

namespace data = boost::unit_test::data;

BOOST_DATA_TEST_CASE(shards_cover_every_element_once,
                     data::make({1, 5, 4096, 4097, 100000}) * data::make({1, 2, 3, 8}), elements,
                     ranks) {
  const ShardLayout layout(elements, ranks);
  int64_t next = 0;
  for (int rank = 0; rank < ranks; ++rank) {
    BOOST_TEST(layout.owned(rank).begin == next);
    next = layout.owned(rank).end;
  }
  BOOST_TEST(next == elements);
}

BOOST_DATA_TEST_CASE(blocks_are_equal_and_aligned,
                     data::make({1, 4096, 12289}) * data::make({1, 2, 3, 8}), elements, ranks) {
  const ShardLayout layout(elements, ranks);
  for (int rank = 0; rank < ranks; ++rank) {
    BOOST_TEST(layout.block(rank).size() == layout.shard_size());
    BOOST_TEST(layout.block(rank).begin % ShardLayout::kAlignment == 0);
  }
  BOOST_TEST(layout.padded_size() == ranks * layout.shard_size());
  BOOST_TEST(layout.padded_size() >= elements);
}

BOOST_AUTO_TEST_CASE(more_ranks_than_elements_leave_empty_shards) {
  const ShardLayout layout(3, 4);
  BOOST_TEST(layout.owned(0).size() == 3);
  for (int rank = 1; rank < 4; ++rank) BOOST_TEST(layout.owned(rank).is_empty());
}

BOOST_AUTO_TEST_CASE(no_element_is_padding_alone) {
  const ShardLayout layout(0, 2);
  BOOST_TEST(layout.padded_size() == 2 * ShardLayout::kAlignment);
  BOOST_TEST(layout.owned(0).is_empty());
  BOOST_TEST(layout.owned(1).is_empty());
}

BOOST_AUTO_TEST_CASE(less_than_no_element_or_no_rank_is_refused) {
  BOOST_CHECK_THROW(ShardLayout(-1, 1), std::invalid_argument);
  BOOST_CHECK_THROW(ShardLayout(1, 0), std::invalid_argument);
}

}  // namespace
}  // namespace temper
