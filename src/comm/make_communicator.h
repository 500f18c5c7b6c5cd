// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <c10/core/Device.h>

#include <memory>
#include <optional>
#include <string>

#include "comm/communicator.h"
#include "comm/mpi_session.h"

namespace temper {

/// All ranks of the job, by the library that suits where the model lives: NCCL for GPUs, MPI for
/// the CPU and for any other accelerator that LibTorch knows. A rank's GPU is the one that
/// share_gpus() gives it.
/// Collective: all ranks.
/// Throws: CommError; ConfigError for a device that this build does not know; LaunchError for ranks
///   that have no GPU of their own.
std::unique_ptr<Communicator> make_communicator(const MpiSession& session, at::Device device);

/// What of a GPU decides the bits that it computes.
struct GpuKind {
  std::string name;        ///< "NVIDIA H200"
  std::string capability;  ///< The compute capability: "9.0".
  int num_multiprocessors = 0;
};

/// That of a communicator's device; nothing if it is no GPU. Throws: CommError.
std::optional<GpuKind> find_gpu_kind(at::Device device);

}  // namespace temper
