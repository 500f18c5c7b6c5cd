// SPDX-License-Identifier: Apache-2.0
#include "comm/make_communicator.h"

#include <mpi.h>

#ifdef TEMPER_CUDA
#include <cuda_runtime.h>

#include "comm/nccl_communicator.h"
#endif

#include "comm/mpi_communicator.h"
#include "core/concat.h"
#include "core/error.h"

namespace temper {
namespace {

#ifdef TEMPER_CUDA
std::unique_ptr<Communicator> make_gpu_communicator(const MpiSession& session, at::Device device) {
  int num_visible = 0;
  if (cudaGetDeviceCount(&num_visible) != cudaSuccess) num_visible = 0;
  if (!device.has_index()) device.set_index(choose_gpu(session.local_rank(), num_visible));
  MpiCommunicator meeting(MPI_COMM_WORLD);
  return std::make_unique<NcclCommunicator>(meeting, device);
}
#else
std::unique_ptr<Communicator> make_gpu_communicator(const MpiSession&, at::Device device) {
  throw ConfigError(concat("this build of temper knows no device ", device),
                    "build with launch/build cuda, or set the device to cpu");
}
#endif

}  // namespace

std::unique_ptr<Communicator> make_communicator(const MpiSession& session, at::Device device) {
  if (device.is_cpu()) return std::make_unique<MpiCommunicator>(MPI_COMM_WORLD);
  return make_gpu_communicator(session, device);
}

c10::DeviceIndex choose_gpu(int local_rank, int num_visible) {
  if (local_rank < num_visible) return static_cast<c10::DeviceIndex>(local_rank);
  if (num_visible == 1) return 0;
  throw ConfigError(concat("rank ", local_rank, " of this node sees ", num_visible, " GPUs"),
                    "ask for as many GPUs as ranks on a node: --gpus-per-node, --ntasks-per-node");
}

}  // namespace temper
