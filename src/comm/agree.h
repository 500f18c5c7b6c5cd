// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "comm/communicator.h"
#include "core/hash.h"

namespace temper {

/// Replaces each word, on the host, by its reduction over the ranks: exact, whatever the order.
/// Collective: all ranks. Throws: CommError.
void reduce_words(Communicator& ranks, std::span<int64_t> words, ReduceOp op);

/// Whether `flag` is true on every rank: all ranks get one answer and may branch on it.
/// Collective: all ranks.
bool all_of(Communicator& ranks, bool flag);

/// Whether `flag` is true on at least one rank.
/// Collective: all ranks.
bool any_of(Communicator& ranks, bool flag);

/// Ranks that do not have the same digest.
struct Disagreement {
  size_t odd = 0;       ///< The first rank that differs from most.
  size_t usual = 0;     ///< The first of those that most agree with.
  int64_t num_odd = 1;  ///< All that differ from most.
};

/// Compares a digest over the ranks; those without one take no part. Nothing if all agree.
/// Collective: all ranks; all get one answer.
std::optional<Disagreement> find_disagreement(Communicator& ranks,
                                              const std::optional<Digest>& digest);

/// What is compared, for the error's text.
struct Compared {
  std::string_view what;  ///< "the configuration"
  const char* remedy = "start all ranks from one installation with one configuration";
};

/// Refuses ranks that do not have the same digest, say of the configuration. Shapes: hosts [rank].
/// Collective: all ranks; all throw or none does.
/// Throws: LaunchError, naming the first rank that differs from most, and its host.
void require_same_on_all_ranks(Communicator& ranks, const std::optional<Digest>& digest,
                               const Compared& compared, const std::vector<std::string>& hosts);

/// "rank 3 on n2". Shapes: hosts [rank].
std::string place_of(size_t rank, const std::vector<std::string>& hosts);

}  // namespace temper
