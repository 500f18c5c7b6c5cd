// SPDX-License-Identifier: Apache-2.0
#include "comm/gpu_of_rank.h"

#include <cstdio>
#include <map>
#include <utility>

#include "core/concat.h"
#include "core/error.h"

namespace temper {
namespace {

constexpr const char* kRemedy =
    "ask for as many GPUs as ranks on a node: --gpus-per-node, --ntasks-per-node";

// As nvidia-smi -L has it.
std::string text_of(const std::array<uint8_t, 16>& uuid) {
  std::string text = "GPU-";
  for (size_t i = 0; i < uuid.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    std::array<char, 3> digits{};
    std::snprintf(digits.data(), digits.size(), "%02x", uuid.at(i));
    text += digits.data();
  }
  return text;
}

std::string table(const std::vector<GpuOfRank>& gpus, const std::vector<std::string>& hosts,
                  const std::string& host) {
  std::string text;
  for (size_t rank = 0; rank < gpus.size(); ++rank) {
    if (hosts[rank] != host) continue;
    const GpuOfRank& gpu = gpus[rank];
    text += concat("\n  rank ", rank, " on ", host, " sees ", gpu.num_visible, " GPUs and takes ",
                   gpu.index == GpuOfRank::kNone ? "none" : text_of(gpu.uuid));
  }
  return text;
}

}  // namespace

int choose_gpu(int local_rank, int num_visible) {
  if (local_rank < num_visible) return local_rank;
  return num_visible == 1 ? 0 : GpuOfRank::kNone;
}

void require_own_gpus(const std::vector<GpuOfRank>& gpus, const std::vector<std::string>& hosts) {
  std::map<std::pair<std::string, std::array<uint8_t, 16>>, size_t> owners;
  for (size_t rank = 0; rank < gpus.size(); ++rank) {
    const std::string& host = hosts.at(rank);
    if (gpus[rank].index == GpuOfRank::kNone) {
      throw LaunchError(
          concat("there is no GPU for rank ", rank, " on ", host, ':', table(gpus, hosts, host)),
          kRemedy);
    }
    const auto [owner, is_first] = owners.try_emplace({host, gpus[rank].uuid}, rank);
    if (!is_first) {
      throw LaunchError(concat("ranks ", owner->second, " and ", rank, " on ", host,
                               " take one GPU:", table(gpus, hosts, host)),
                        kRemedy);
    }
  }
}

}  // namespace temper
