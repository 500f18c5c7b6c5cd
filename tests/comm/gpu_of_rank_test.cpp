// SPDX-License-Identifier: Apache-2.0
#include "comm/gpu_of_rank.h"

#include <boost/test/unit_test.hpp>

#include "core/error.h"

using namespace temper;

namespace {

GpuOfRank gpu(int index, uint8_t card) {
  GpuOfRank gpu{.num_visible = 2, .index = index};
  gpu.uuid.fill(card);
  return gpu;
}

std::string refusal(const std::vector<GpuOfRank>& gpus, const std::vector<std::string>& hosts) {
  try {
    require_own_gpus(gpus, hosts);
  } catch (const LaunchError& error) {
    return error.what();
  }
  return "none";
}

const std::vector<std::string> kTwoNodes = {"n1", "n1", "n2", "n2"};

}  // namespace

BOOST_AUTO_TEST_SUITE(gpu_of_rank)

BOOST_AUTO_TEST_CASE(each_rank_of_a_node_takes_the_one_of_its_place) {
  BOOST_TEST(choose_gpu(0, 2) == 0);
  BOOST_TEST(choose_gpu(1, 2) == 1);
  BOOST_TEST(choose_gpu(3, 1) == 0);  // Slurm's --gpus-per-task shows each rank one, number 0.
  BOOST_TEST(choose_gpu(2, 2) == GpuOfRank::kNone);
  BOOST_TEST(choose_gpu(0, 0) == GpuOfRank::kNone);
}

BOOST_AUTO_TEST_CASE(ranks_with_cards_of_their_own_are_accepted) {
  BOOST_TEST(refusal({gpu(0, 1), gpu(1, 2), gpu(0, 3), gpu(1, 4)}, kTwoNodes) == "none");
  BOOST_TEST(refusal({gpu(0, 1), gpu(1, 2), gpu(0, 1), gpu(1, 2)}, kTwoNodes) == "none");
}

BOOST_AUTO_TEST_CASE(two_ranks_on_one_card_are_refused_with_the_table_of_their_node) {
  BOOST_TEST(refusal({gpu(0, 1), gpu(1, 2), gpu(0, 0xab), gpu(0, 0xab)}, kTwoNodes) ==
             "ranks 2 and 3 on n2 take one GPU:\n"
             "  rank 2 on n2 sees 2 GPUs and takes GPU-abababab-abab-abab-abab-abababababab\n"
             "  rank 3 on n2 sees 2 GPUs and takes GPU-abababab-abab-abab-abab-abababababab\n"
             "  try: ask for as many GPUs as ranks on a node: --gpus-per-node, --ntasks-per-node");
}

BOOST_AUTO_TEST_CASE(a_rank_without_a_card_is_refused) {
  const std::string text =
      refusal({gpu(0, 1), {.num_visible = 1}}, {kTwoNodes.begin(), kTwoNodes.begin() + 2});
  BOOST_TEST(text.starts_with("there is no GPU for rank 1 on n1:\n"), text);
  BOOST_TEST(text.find("\n  rank 1 on n1 sees 1 GPUs and takes none\n") != std::string::npos, text);
}

BOOST_AUTO_TEST_SUITE_END()
