// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "comm/communicator.h"
#include "comm/mpi_session.h"

namespace temper {

/// How many threads this rank computes with: as asked, or, if `asked` is 0, its share of the CPUs
/// in its affinity mask, which other ranks of its node may use, too; at least 1. Warns of ranks
/// whose share is less than what they were asked for.
/// Collective: all ranks; all throw or none does. Throws: LaunchError if a rank's mask has fewer
///   CPUs than `asked`.
int choose_num_threads(const MpiSession& session, Communicator& ranks, int asked);

}  // namespace temper
