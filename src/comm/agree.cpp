// SPDX-License-Identifier: Apache-2.0
#include "comm/agree.h"

#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <map>
#include <vector>

#include "comm/bytes.h"
#include "core/concat.h"
#include "core/error.h"

namespace temper {
namespace {

bool reduce_flag(Communicator& ranks, bool flag, ReduceOp op) {
  int64_t word = flag ? 1 : 0;
  reduce_words(ranks, {&word, 1}, op);
  return word != 0;
}

// What a rank without a digest sends: no SHA-256 is known to be this.
constexpr Digest kNone{};

}  // namespace

void reduce_words(Communicator& ranks, std::span<int64_t> words, ReduceOp op) {
  if (ranks.world_size() == 1) return;
  const at::Tensor on_host = at::from_blob(words.data(), {std::ssize(words)}, at::kLong);
  const bool is_here = ranks.device().is_cpu();
  const at::Tensor moved =  // The host does not wait for the copy.
      is_here ? on_host : on_host.pin_memory().to(ranks.device(), /*non_blocking=*/true);
  ranks.all_reduce(moved, op).wait();
  if (!moved.is_cpu()) on_host.copy_(moved);
}

bool all_of(Communicator& ranks, bool flag) { return reduce_flag(ranks, flag, ReduceOp::kMin); }

bool any_of(Communicator& ranks, bool flag) { return reduce_flag(ranks, flag, ReduceOp::kMax); }

std::optional<Disagreement> find_disagreement(Communicator& ranks,
                                              const std::optional<Digest>& digest) {
  const Digest own = digest.value_or(kNone);
  std::vector<Digest> digests(static_cast<size_t>(ranks.world_size()));
  gather_bytes(ranks, std::as_bytes(std::span(own)), std::as_writable_bytes(std::span(digests)));
  std::map<Digest, int64_t> counts;
  int64_t num_digests = 0, most = 0;
  for (const Digest& one : digests) {
    if (one == kNone) continue;
    ++num_digests;
    most = std::max(most, ++counts[one]);
  }
  if (counts.size() < 2) return std::nullopt;
  const auto is_usual = [&](const Digest& one) { return one != kNone && counts[one] == most; };
  const auto usual = std::ranges::find_if(digests, is_usual);
  const auto odd = std::ranges::find_if(
      digests, [&](const Digest& one) { return one != kNone && one != *usual; });
  return Disagreement{static_cast<size_t>(odd - digests.begin()),
                      static_cast<size_t>(usual - digests.begin()), num_digests - most};
}

void require_same_on_all_ranks(Communicator& ranks, const std::optional<Digest>& digest,
                               const Compared& compared, const std::vector<std::string>& hosts) {
  const std::optional<Disagreement> found = find_disagreement(ranks, digest);
  if (!found) return;
  throw LaunchError(concat(place_of(found->odd, hosts), " differs from ",
                           place_of(found->usual, hosts), " in ", compared.what, ", and so do ",
                           found->num_odd - 1, " more of ", hosts.size(), " ranks"),
                    compared.remedy);
}

std::string place_of(size_t rank, const std::vector<std::string>& hosts) {
  return concat("rank ", rank, " on ", hosts.at(rank));
}

}  // namespace temper
