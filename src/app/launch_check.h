// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "comm/communicator.h"
#include "comm/mpi_session.h"
#include "config/run_config.h"
#include "config/trajectory.h"

namespace temper {

/// How many ranks the launcher said there are; 0 where none did. To be asked before MPI starts,
/// since MPI sets such variables itself.
int num_ranks_told();

/// Refuses a start by srun without PMIx, of which MPI_Init would only say that it failed. To be
/// called before MPI starts. Local. Throws: LaunchError.
void require_process_manager();

/// Refuses a start under a launcher that MPI does not know: each process would train alone.
/// Throws: LaunchError.
void require_ranks_as_told(const MpiSession& session, int num_told);

/// Refuses ranks with other binaries or configurations.
/// Collective: all ranks; all throw or none does. Throws: LaunchError, naming rank and host.
void require_same_program(const MpiSession& session, Communicator& ranks, const RunConfig& config);

/// Refuses ranks that see another model, or other training shards, under the same paths.
/// Collective: all ranks; all throw or none does. Throws: LaunchError, naming rank and host.
void require_same_inputs(const MpiSession& session, Communicator& ranks,
                         const TrajectoryFacts& facts);

}  // namespace temper
