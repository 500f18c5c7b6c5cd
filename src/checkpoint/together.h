// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "core/error.h"

namespace temper {

/// Runs `work` on every rank. If it threw an Error on any of them, all ranks throw: a rank its own
/// one, the others that of the first rank that has one, with its number. A StorageError counts only
/// if no rank has another one: all ranks throw it or none does, and may do the work again.
///
/// Collective: all ranks; `work` itself must not communicate.
/// Throws: ConfigError, DataError, ModelError, LaunchError, StopRequest, StorageError,
///   NewerFormatError or CheckpointError, as the rank that failed.
void do_together(Communicator& ranks, const std::function<void()>& work);

/// The same for work that rank 0 does for all.
void do_on_rank_0(Communicator& ranks, const std::function<void()>& work);

/// The pauses before each further try of what storage did not do.
using Pauses = std::vector<std::chrono::milliseconds>;

/// Doubling from a second on, to a minute altogether: what a file server takes to be there again.
Pauses default_pauses();

/// Does `work`, which all ranks do together, until it does not throw StorageError, at most once
/// more than there are pauses. A signal to any rank ends a pause on all of them.
/// Collective. Throws: as `work`; StopRequest.
void try_again(Communicator& ranks, const Pauses& pauses, const std::function<void()>& work);

/// Rank 0's text, on every rank. Collective: all ranks.
std::string broadcast_text(Communicator& ranks, const std::string& text);

}  // namespace temper
