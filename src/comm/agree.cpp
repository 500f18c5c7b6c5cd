// SPDX-License-Identifier: Apache-2.0
#include "comm/agree.h"

#include <ATen/ops/full.h>

#include <algorithm>
#include <span>
#include <vector>

#include "comm/bytes.h"
#include "core/concat.h"
#include "core/error.h"

namespace temper {
namespace {

bool reduce_flag(Communicator& ranks, bool flag, ReduceOp op) {
  auto tensor = at::full({1}, flag ? 1 : 0, at::TensorOptions(ranks.device()).dtype(at::kInt));
  ranks.all_reduce(tensor, op).wait();
  return tensor.item<int>() != 0;
}

std::vector<Digest> gather(Communicator& ranks, const Digest& digest) {
  std::vector<Digest> digests(static_cast<size_t>(ranks.world_size()));
  gather_bytes(ranks, std::as_bytes(std::span(digest)), std::as_writable_bytes(std::span(digests)));
  return digests;
}

}  // namespace

bool all_of(Communicator& ranks, bool flag) { return reduce_flag(ranks, flag, ReduceOp::kMin); }

bool any_of(Communicator& ranks, bool flag) { return reduce_flag(ranks, flag, ReduceOp::kMax); }

void require_same_on_all_ranks(Communicator& ranks, const Digest& digest, std::string_view what,
                               const std::vector<std::string>& hosts) {
  const std::vector<Digest> digests = gather(ranks, digest);
  const auto count = [&](const Digest& one) { return std::ranges::count(digests, one); };
  const auto usual = std::ranges::max_element(digests, {}, count);
  const auto odd = std::ranges::find_if(digests, [&](const Digest& one) { return one != *usual; });
  if (odd == digests.end()) return;
  const auto name = [&](auto place) {
    const auto rank = static_cast<size_t>(place - digests.begin());
    return concat("rank ", rank, " on ", hosts.at(rank));
  };
  throw LaunchError(
      concat(name(odd), " differs from ", name(usual), " in ", what, ", and so do ",
             std::ssize(digests) - count(*usual) - 1, " more of ", digests.size(), " ranks"),
      "start all ranks from one installation with one configuration");
}

}  // namespace temper
