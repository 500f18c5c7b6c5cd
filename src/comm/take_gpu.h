// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "comm/communicator.h"
#include "comm/mpi_session.h"
#include "comm/share_gpus.h"

namespace temper {

/// This process's GPUs, as CUDA_VISIBLE_DEVICES and the node's limits leave them; none if CUDA
/// cannot be asked.
VisibleGpus visible_gpus();

/// The CUDA device that this rank takes of those that it sees.
/// Collective: over `meeting`, all ranks of the session. Throws: CommError; LaunchError as
///   share_gpus() does, on all ranks.
at::Device take_gpu(const MpiSession& session, Communicator& meeting);

}  // namespace temper
