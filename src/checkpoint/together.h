// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>

#include "comm/communicator.h"
#include "core/error.h"

namespace temper {

/// Runs `work` on every rank. If it threw an Error on any of them, all ranks throw: a rank its own
/// one, the others that of the first rank that has one, with its number.
///
/// Collective: all ranks; `work` itself must not communicate.
/// Throws: ConfigError, DataError, ModelError, LaunchError or CheckpointError, as the rank that
///   failed.
void do_together(Communicator& ranks, const std::function<void()>& work);

/// The same for work that rank 0 does for all.
void do_on_rank_0(Communicator& ranks, const std::function<void()>& work);

/// Rank 0's text, on every rank. Collective: all ranks.
std::string broadcast_text(Communicator& ranks, const std::string& text);

}  // namespace temper
