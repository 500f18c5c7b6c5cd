// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <string>
#include <vector>

namespace temper {

/// A GPU, or a slice of one (MIG).
struct Gpu {
  std::array<uint8_t, 16> uuid{};    ///< The card's own, or that of the slice.
  std::array<int32_t, 3> address{};  ///< PCI domain, bus and device: the card's in both cases.

  auto operator<=>(const Gpu&) const = default;
};

/// What one rank sees of its node's GPUs, in CUDA's order. Plain bytes, to be sent.
struct VisibleGpus {
  static constexpr size_t kMost = 32;  ///< More than the 16 that the largest nodes have.

  int32_t count = 0;
  std::array<Gpu, kMost> gpus{};

  auto operator<=>(const VisibleGpus&) const = default;
};

/// The index of the GPU that each rank takes, among those that it sees. Of the ranks of a node that
/// see the same GPUs each takes that of its place among these ranks. So the launcher may show all
/// GPUs to all ranks, or each rank its own alone, or those near its processors.
/// Shapes: seen, hosts and result [rank].
/// Throws: LaunchError, with the table of the node, for a rank that is left without one, and for
/// two
///   on one card, also on two slices of it, since NCCL does not join these.
std::vector<int> share_gpus(const std::vector<VisibleGpus>& seen,
                            const std::vector<std::string>& hosts);

}  // namespace temper
