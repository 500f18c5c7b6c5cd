// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/model_folder.h"
#include "comm/communicator.h"
#include "comm/mpi_session.h"
#include "config/run_config.h"
#include "core/hash.h"

namespace temper {

/// `run_under_mpi` for a verb that every rank of the launch takes part in. Refuses a start by srun
/// without PMIx, of which MPI_Init would only say that it failed, and one by a launcher that MPI
/// does not know: each process would train alone. Throws: LaunchError, before MPI starts.
int run_as_launched(const std::function<int(const MpiSession&)>& verb);

/// Refuses ranks with other binaries or configurations.
/// Collective: all ranks; all throw or none does. Throws: LaunchError, naming rank and host.
void require_same_program(const MpiSession& session, Communicator& ranks, const RunConfig& config);

/// Where a rank is. Shapes: hosts [rank].
struct Seat {
  int local_rank = 0;  ///< On its node.
  const std::vector<std::string>& hosts;
};

/// Refuses nodes that have another model under the same path, such as a stale copy on their own
/// disk: by its configuration, the names and places of its tensors, and a sample of what is in
/// them. One rank of each node reads, and none where there is but one node.
/// Collective: all ranks; all throw or none does. Throws: LaunchError, naming rank and host;
/// ModelError if a weight cannot be read.
void require_same_model(const Seat& seat, Communicator& ranks, const ModelFolder& folder);

/// SHA-256 over what a model's folder is, and a sample of what is in each tensor: another training,
/// another file or a copy that ended early has another one. Local. Throws: ModelError.
Digest sampled_digest(const ModelFolder& folder);

/// Refuses ranks that see other files than most, `what`, under the same paths. The fingerprint of a
/// token shard covers the hash of each of its blocks, and each block is compared with its hash when
/// it is read, so that no content has to be sampled here.
/// Collective: all ranks; all throw or none does. Throws: LaunchError, naming rank and host.
void require_same_fingerprints(const MpiSession& session, Communicator& ranks,
                               const std::vector<std::string>& fingerprints, std::string_view what);

}  // namespace temper
