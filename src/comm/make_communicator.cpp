// SPDX-License-Identifier: Apache-2.0
#include "comm/make_communicator.h"

#include <mpi.h>

#ifdef TEMPER_CUDA
#include <cuda_runtime.h>

#include "comm/nccl_communicator.h"
#include "comm/take_gpu.h"
#endif

#include "comm/mpi_communicator.h"
#include "core/concat.h"
#include "core/error.h"

namespace temper {
namespace {

#ifdef TEMPER_CUDA
std::unique_ptr<Communicator> make_gpu_communicator(const MpiSession& session, at::Device) {
  MpiCommunicator meeting(MPI_COMM_WORLD);
  const at::Device device = take_gpu(session, meeting);
  return std::make_unique<NcclCommunicator>(meeting, device);
}

GpuKind kind_of_gpu(at::Device device) {
  cudaDeviceProp properties{};
  const cudaError_t status = cudaGetDeviceProperties(&properties, device.index());
  if (status != cudaSuccess) {
    throw CommError(concat("cudaGetDeviceProperties failed: ", cudaGetErrorString(status)),
                    "look at the card with nvidia-smi");
  }
  return {properties.name, concat(properties.major, '.', properties.minor),
          properties.multiProcessorCount};
}
#else
std::unique_ptr<Communicator> make_gpu_communicator(const MpiSession&, at::Device device) {
  throw ConfigError(concat("this build of temper knows no device ", device),
                    "build with launch/build cuda, or set the device to cpu");
}

GpuKind kind_of_gpu(at::Device) { return {}; }  // No communicator has such a device.
#endif

}  // namespace

std::unique_ptr<Communicator> make_communicator(const MpiSession& session, at::Device device) {
  if (device.is_cuda()) return make_gpu_communicator(session, device);
  if (!device.is_cpu() && !device.has_index()) device.set_index(0);
  return std::make_unique<MpiCommunicator>(MPI_COMM_WORLD, device);
}

std::optional<GpuKind> find_gpu_kind(at::Device device) {
  return device.is_cuda() ? std::optional(kind_of_gpu(device)) : std::nullopt;
}

}  // namespace temper
