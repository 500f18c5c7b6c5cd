// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <c10/core/Device.h>

#include <memory>

#include "comm/communicator.h"
#include "comm/mpi_session.h"

namespace temper {

/// All ranks of the job, by the library that suits where the model lives: MPI for the CPU, NCCL
/// for GPUs. A GPU without an index is the one of this rank's place on its node; with a launcher
/// that shows each rank its own GPU alone, the only one.
/// Collective: all ranks.
/// Throws: CommError; ConfigError for a device that this build or this node does not have.
std::unique_ptr<Communicator> make_communicator(const MpiSession& session, at::Device device);

/// Which of `num_visible` GPUs rank `local_rank` of a node takes.
/// Throws: ConfigError if there is none for it.
c10::DeviceIndex choose_gpu(int local_rank, int num_visible);

}  // namespace temper
