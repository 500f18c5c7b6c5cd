// SPDX-License-Identifier: Apache-2.0
#include "comm/share_gpus.h"

#include <algorithm>
#include <boost/test/unit_test.hpp>

#include "core/error.h"

using namespace temper;

namespace {

// Slice 0 is the whole card.
Gpu gpu(uint8_t card, uint8_t slice = 0) {
  Gpu gpu{.uuid = {}, .address = {0, card, 0}};
  gpu.uuid.fill(static_cast<uint8_t>(card + slice));
  return gpu;
}

VisibleGpus see(const std::vector<Gpu>& gpus) {
  VisibleGpus seen{.count = static_cast<int32_t>(gpus.size()), .gpus = {}};
  std::copy(gpus.begin(), gpus.end(), seen.gpus.begin());
  return seen;
}

std::string refusal(const std::vector<VisibleGpus>& seen, const std::vector<std::string>& hosts) {
  try {
    share_gpus(seen, hosts);
  } catch (const LaunchError& error) {
    return error.what();
  }
  return "none";
}

const std::vector<std::string> kTwoNodes = {"n1", "n1", "n2", "n2"};
const std::vector<std::string> kOneNode = {"n1", "n1", "n1", "n1"};

}  // namespace

BOOST_AUTO_TEST_SUITE(gpus_of_ranks)

BOOST_AUTO_TEST_CASE(ranks_that_see_all_take_those_of_their_places) {
  const VisibleGpus all = see({gpu(1), gpu(2)});
  const std::vector<int> wanted = {0, 1, 0, 1};
  BOOST_TEST(share_gpus({all, all, all, all}, kTwoNodes) == wanted);
}

BOOST_AUTO_TEST_CASE(ranks_that_see_their_own_take_it) {
  const std::vector<int> wanted = {0, 0, 0, 0};
  BOOST_TEST(share_gpus({see({gpu(1)}), see({gpu(2)}), see({gpu(1)}), see({gpu(2)})}, kTwoNodes) ==
             wanted);
}

BOOST_AUTO_TEST_CASE(ranks_that_see_what_is_near_take_those_of_their_places_among_neighbours) {
  const VisibleGpus left = see({gpu(1), gpu(2)}), right = see({gpu(3), gpu(4)});
  const std::vector<int> wanted = {0, 0, 1, 1};  // In blocks, and here in turns.
  BOOST_TEST(share_gpus({left, right, left, right}, kOneNode) == wanted);
}

BOOST_AUTO_TEST_CASE(two_ranks_on_one_card_are_refused_with_the_table_of_their_node) {
  const VisibleGpus all = see({gpu(1), gpu(2)});
  BOOST_TEST(refusal({all, all, see({gpu(0xab)}), see({gpu(0xab), gpu(2)})}, kTwoNodes) ==
             "ranks 2 and 3 on n2 take one GPU:\n"
             "  rank 2 on n2 sees 1 GPUs and takes GPU-abababab-abab-abab-abab-abababababab\n"
             "  rank 3 on n2 sees 2 GPUs and takes GPU-abababab-abab-abab-abab-abababababab\n"
             "  try: show all ranks the same GPUs, or each its own: --gpu-bind=none, or single:1");
}

BOOST_AUTO_TEST_CASE(two_ranks_on_slices_of_one_card_are_refused) {
  const std::string text = refusal({see({gpu(1, 1)}), see({gpu(1, 2)})}, {"n1", "n1"});
  BOOST_TEST(text.starts_with("ranks 0 and 1 on n1 take slices of one GPU, which NCCL does not "
                              "join:\n"),
             text);
  BOOST_TEST(refusal({see({gpu(1, 1)}), see({gpu(2, 1)})}, {"n1", "n1"}) == "none");
}

BOOST_AUTO_TEST_CASE(a_rank_that_is_left_without_a_card_is_refused) {
  const VisibleGpus one = see({gpu(1)});
  const std::string text = refusal({one, one}, {"n1", "n1"});
  BOOST_TEST(text.starts_with("there is no GPU for rank 1 on n1:\n"), text);
  BOOST_TEST(text.find("\n  rank 1 on n1 sees 1 GPUs and takes none\n") != std::string::npos, text);
  BOOST_TEST(refusal({see({})}, {"n1"}).starts_with("there is no GPU for rank 0 on n1:\n"));
}

BOOST_AUTO_TEST_SUITE_END()
