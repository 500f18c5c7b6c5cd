// SPDX-License-Identifier: Apache-2.0
#include "comm/share_gpus.h"

#include <cstdio>
#include <map>
#include <utility>

#include "core/concat.h"
#include "core/error.h"

namespace temper {
namespace {

constexpr int kNoGpu = -1;

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

// The ranks of a launch, and the index that each takes, or kNoGpu.
struct Shares {
  const std::vector<VisibleGpus>& seen;
  const std::vector<std::string>& hosts;
  std::vector<int> taken;

  const Gpu& gpu(size_t rank) const { return seen[rank].gpus.at(static_cast<size_t>(taken[rank])); }

  std::string table(const std::string& host) const {
    std::string text;
    for (size_t rank = 0; rank < seen.size(); ++rank) {
      if (hosts.at(rank) != host) continue;
      text += concat("\n  rank ", rank, " on ", host, " sees ", seen[rank].count,
                     " GPUs and takes ", taken[rank] == kNoGpu ? "none" : text_of(gpu(rank).uuid));
    }
    return text;
  }
};

void share_by_place(Shares& shares) {
  std::map<std::pair<std::string, VisibleGpus>, int> num_before;
  for (size_t rank = 0; rank < shares.seen.size(); ++rank) {
    const int place = num_before[{shares.hosts.at(rank), shares.seen[rank]}]++;
    shares.taken.push_back(place < shares.seen[rank].count ? place : kNoGpu);
  }
}

void require_one_each(const Shares& shares) {
  for (size_t rank = 0; rank < shares.seen.size(); ++rank) {
    if (shares.taken[rank] != kNoGpu) continue;
    const std::string& host = shares.hosts[rank];
    throw LaunchError(
        concat("there is no GPU for rank ", rank, " on ", host, ':', shares.table(host)),
        "ask for as many GPUs as ranks on a node: --gpus-per-node, --ntasks-per-node. Of slices "
        "(MIG) a rank sees one: show each its own with --gpu-bind=single:1");
  }
}

void require_whole_cards(const Shares& shares) {
  std::map<std::pair<std::string, std::array<int32_t, 3>>, size_t> owners;
  for (size_t rank = 0; rank < shares.seen.size(); ++rank) {
    const std::string& host = shares.hosts[rank];
    const auto [owner, is_first] = owners.try_emplace({host, shares.gpu(rank).address}, rank);
    if (is_first) continue;
    const bool is_same = shares.gpu(owner->second).uuid == shares.gpu(rank).uuid;
    throw LaunchError(
        concat("ranks ", owner->second, " and ", rank, " on ", host,
               is_same ? " take one GPU:" : " take slices of one GPU, which NCCL does not join:",
               shares.table(host)),
        is_same ? "show all ranks the same GPUs, or each its own: --gpu-bind=none, or single:1"
                : "one rank for each card");
  }
}

}  // namespace

std::vector<int> share_gpus(const std::vector<VisibleGpus>& seen,
                            const std::vector<std::string>& hosts) {
  Shares shares{.seen = seen, .hosts = hosts, .taken = {}};
  share_by_place(shares);
  require_one_each(shares);
  require_whole_cards(shares);
  return shares.taken;
}

}  // namespace temper
