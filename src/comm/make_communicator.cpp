// SPDX-License-Identifier: Apache-2.0
#include "comm/make_communicator.h"

#include <mpi.h>

#ifdef TEMPER_CUDA
#include <cuda_runtime.h>

#include <cstring>
#include <span>
#include <vector>

#include "comm/bytes.h"
#include "comm/gpu_of_rank.h"
#include "comm/nccl_communicator.h"
#endif

#include "comm/mpi_communicator.h"
#include "core/concat.h"
#include "core/error.h"

namespace temper {
namespace {

#ifdef TEMPER_CUDA
GpuOfRank own_gpu(int local_rank, at::Device device) {
  GpuOfRank gpu;
  if (cudaGetDeviceCount(&gpu.num_visible) != cudaSuccess) gpu.num_visible = 0;
  gpu.index = device.has_index() ? device.index() : choose_gpu(local_rank, gpu.num_visible);
  cudaDeviceProp properties{};
  if (gpu.index == GpuOfRank::kNone ||
      cudaGetDeviceProperties(&properties, gpu.index) != cudaSuccess) {
    return {.num_visible = gpu.num_visible};
  }
  std::memcpy(gpu.uuid.data(), &properties.uuid, gpu.uuid.size());
  return gpu;
}

std::unique_ptr<Communicator> make_gpu_communicator(const MpiSession& session, at::Device device) {
  MpiCommunicator meeting(MPI_COMM_WORLD);
  const GpuOfRank own = own_gpu(session.local_rank(), device);
  std::vector<GpuOfRank> all(static_cast<size_t>(session.world_size()));
  gather_bytes(meeting, std::as_bytes(std::span(&own, 1)), std::as_writable_bytes(std::span(all)));
  require_own_gpus(all, session.host_names());
  device.set_index(static_cast<c10::DeviceIndex>(own.index));
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
