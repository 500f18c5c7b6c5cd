// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace temper {

/// What one rank sees of its node's GPUs, and the one it takes. Plain bytes, to be sent.
struct GpuOfRank {
  static constexpr int kNone = -1;

  int num_visible = 0;
  int index = kNone;               ///< Among those that it sees.
  std::array<uint8_t, 16> uuid{};  ///< The card's own, or that of the slice of a card.
};

/// Which of `num_visible` GPUs rank `local_rank` of a node takes: that of its place, or the only
/// one where the launcher shows each rank its own; kNone if there is none for it.
int choose_gpu(int local_rank, int num_visible);

/// Refuses ranks without a GPU, and two ranks on one. The message has the table of all of them on
/// the node. Shapes: gpus, hosts [rank]. Throws: LaunchError.
void require_own_gpus(const std::vector<GpuOfRank>& gpus, const std::vector<std::string>& hosts);

}  // namespace temper
