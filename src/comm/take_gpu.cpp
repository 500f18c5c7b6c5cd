// SPDX-License-Identifier: Apache-2.0
#include "comm/take_gpu.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <cstring>
#include <span>

#include "comm/bytes.h"

namespace temper {

VisibleGpus visible_gpus() {
  VisibleGpus seen;
  if (cudaGetDeviceCount(&seen.count) != cudaSuccess) return {};
  seen.count = std::min(seen.count, static_cast<int32_t>(VisibleGpus::kMost));
  for (int index = 0; index < seen.count; ++index) {
    cudaDeviceProp properties{};
    if (cudaGetDeviceProperties(&properties, index) != cudaSuccess) return {};
    Gpu& gpu = seen.gpus.at(static_cast<size_t>(index));
    std::memcpy(gpu.uuid.data(), &properties.uuid, gpu.uuid.size());
    gpu.address = {properties.pciDomainID, properties.pciBusID, properties.pciDeviceID};
  }
  return seen;
}

at::Device take_gpu(const MpiSession& session, Communicator& meeting) {
  const VisibleGpus own = visible_gpus();
  std::vector<VisibleGpus> all(static_cast<size_t>(session.world_size()));
  gather_bytes(meeting, std::as_bytes(std::span(&own, 1)), std::as_writable_bytes(std::span(all)));
  const std::vector<int> taken = share_gpus(all, session.host_names());
  const int index = taken.at(static_cast<size_t>(session.rank()));
  return {at::kCUDA, static_cast<c10::DeviceIndex>(index)};
}

}  // namespace temper
