// SPDX-License-Identifier: Apache-2.0
#include "zero/fold.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>

namespace temper {
namespace {

namespace data = boost::unit_test::data;

// Sizes that fill several tasks and leave a remainder.
constexpr int64_t kSize = 3 * 16384 + 77;

BOOST_DATA_TEST_CASE(blocks_are_added_in_order, data::make({at::kFloat, at::kBFloat16}), dtype) {
  const at::Tensor blocks = at::randn({4, kSize}).to(dtype);
  at::Tensor expected = blocks[0].to(at::kFloat);
  for (int block = 1; block < 4; ++block) expected = expected + blocks[block].to(at::kFloat);

  at::Tensor sum = at::full({kSize}, 1e30);
  fold_blocks(blocks.reshape({-1}), 4, sum, FoldStart::kFresh);
  BOOST_TEST(at::equal(sum, expected));

  fold_blocks(blocks.reshape({-1}), 4, sum, FoldStart::kAdd);
  for (int block = 0; block < 4; ++block) expected = expected + blocks[block].to(at::kFloat);
  BOOST_TEST(at::equal(sum, expected));
}

BOOST_AUTO_TEST_CASE(two_rounds_of_two_equal_four_rounds_of_one) {
  const at::Tensor blocks = at::randn({4, kSize});
  at::Tensor by_two = at::empty({kSize});
  at::Tensor by_one = at::empty({kSize});
  fold_blocks(blocks.narrow(0, 0, 2).reshape({-1}), 2, by_two, FoldStart::kFresh);
  fold_blocks(blocks.narrow(0, 2, 2).reshape({-1}), 2, by_two, FoldStart::kAdd);
  for (int block = 0; block < 4; ++block) {
    fold_blocks(blocks[block], 1, by_one, block == 0 ? FoldStart::kFresh : FoldStart::kAdd);
  }
  BOOST_TEST(at::equal(by_two, by_one));
}

// Rounding of 63 additions: each is off by at most half a unit in the last place of its sum.
BOOST_DATA_TEST_CASE(a_sum_over_64_ranks_is_near_the_one_in_fp64,
                     data::make({at::kFloat, at::kBFloat16}), dtype) {
  at::manual_seed(3);
  const at::Tensor blocks = (at::randn({64, kSize}) * at::exp(at::randn({64, 1}))).to(dtype);
  const at::Tensor expected = blocks.to(at::kDouble).sum(0);
  at::Tensor sum = at::empty({kSize});
  fold_blocks(blocks.reshape({-1}), 64, sum, FoldStart::kFresh);
  const at::Tensor sizes = blocks.to(at::kDouble).abs().sum(0);
  BOOST_TEST(((sum - expected).abs() / sizes).max().item<double>() < 64 * 0x1p-24);
  const at::Tensor length = at::linalg_vector_norm(expected);
  BOOST_TEST((at::linalg_vector_norm(sum - expected) / length).item<double>() < 5e-7);
}

BOOST_AUTO_TEST_CASE(wrong_sizes_and_dtypes_are_refused) {
  at::Tensor sum = at::zeros({4});
  BOOST_CHECK_THROW(fold_blocks(at::zeros({6}), 2, sum, FoldStart::kAdd), std::invalid_argument);
  BOOST_CHECK_THROW(fold_blocks(at::zeros({8}, at::kDouble), 2, sum, FoldStart::kAdd),
                    std::invalid_argument);
}

}  // namespace
}  // namespace temper
