// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "comm/communicator.h"
#include "core/hash.h"

namespace temper {

/// Whether `flag` is true on every rank: all ranks get one answer and may branch on it.
/// Collective: all ranks.
bool all_of(Communicator& ranks, bool flag);

/// Whether `flag` is true on at least one rank.
/// Collective: all ranks.
bool any_of(Communicator& ranks, bool flag);

/// Compares a digest, say of the configuration, over the ranks. `what` names its subject in the
/// error: "the configuration". Shapes: hosts [rank].
/// Collective: all ranks; all throw or none does.
/// Throws: LaunchError, naming the first rank that differs from most, and its host.
void require_same_on_all_ranks(Communicator& ranks, const Digest& digest, std::string_view what,
                               const std::vector<std::string>& hosts);

}  // namespace temper
