// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>

#include "comm/communicator.h"
#include "comm/mpi_session.h"
#include "config/run_config.h"
#include "config/trajectory.h"

namespace temper {

/// `run_under_mpi` for a verb that every rank of the launch takes part in. Refuses a start by srun
/// without PMIx, of which MPI_Init would only say that it failed, and one by a launcher that MPI
/// does not know: each process would train alone. Throws: LaunchError, before MPI starts.
int run_as_launched(const std::function<int(const MpiSession&)>& verb);

/// Refuses ranks with other binaries or configurations.
/// Collective: all ranks; all throw or none does. Throws: LaunchError, naming rank and host.
void require_same_program(const MpiSession& session, Communicator& ranks, const RunConfig& config);

/// Refuses ranks that see another model, or other training shards, under the same paths.
/// Collective: all ranks; all throw or none does. Throws: LaunchError, naming rank and host.
void require_same_inputs(const MpiSession& session, Communicator& ranks,
                         const TrajectoryFacts& facts);

}  // namespace temper
