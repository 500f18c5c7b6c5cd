// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>

#include "comm/mpi_session.h"

namespace temper {

/// Runs a verb that needs no MPI, and returns the process's exit code.
///
/// This and `run_under_mpi` are the one place that catches: what went wrong is printed with what to
/// try, and becomes one of the documented exit codes.
int run_alone(const std::function<int()>& verb);

/// The same for a verb of many ranks: messages begin with `rank R:`, and a failure ends all ranks
/// with its code, since the others may wait in a collective that this one never joins.
int run_under_mpi(const std::function<int(const MpiSession&)>& verb);

/// Ends the process, once all that it began is over. Static objects are not destroyed: to take its
/// registries apart costs LibTorch a third of what the start and end of a process take.
[[noreturn]] void end_process(int code);

}  // namespace temper
