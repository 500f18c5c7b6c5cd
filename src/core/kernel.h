// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <stdexcept>

// Kernels of our own for GPUs. Each is a struct in a header, <name>_kernel.h, that C++ and CUDA
// compilers read alike; a file of CUDA, <name>.cu, compiles it for cards, and tests walk its grid
// on the CPU.
#ifdef __CUDACC__
#define TEMPER_HOST_DEVICE __host__ __device__
#else
#define TEMPER_HOST_DEVICE
#endif

namespace temper {

/// Whether a build has them. Functions that call `launch` ask in `if constexpr`.
#ifdef TEMPER_KERNELS
constexpr bool kHasKernels = true;
#else
constexpr bool kHasKernels = false;
#endif

/// Which thread of which block of a kernel's grid.
struct GridPlace {
  uint32_t block;
  uint32_t thread;
};

inline int64_t num_blocks_for(int64_t num_items, int64_t items_per_block) {
  return (num_items + items_per_block - 1) / items_per_block;
}

/// Queues a kernel on one of CUDA's streams (cudaStream_t); does nothing without blocks.
///
/// A kernel is a struct of numbers and of pointers into the device's memory, with:
///   kNumThreads   of a block;
///   num_blocks()  int64_t;
///   Shared        what the threads of a block share, not initialised;
///   kNumPhases    what they do one after the other: a phase begins when all have ended the last;
///   run(int phase, GridPlace place, Shared& shared) const  TEMPER_HOST_DEVICE: one thread's part.
///     Within a phase the order of threads is not known.
/// Throws: std::runtime_error, where CUDA refuses; std::invalid_argument for too large a grid.
template <typename Kernel>
void launch(const Kernel& kernel, void* stream);

#ifdef __CUDACC__

template <typename Kernel>
__global__ void __launch_bounds__(Kernel::kNumThreads)
    run_kernel(const __grid_constant__ Kernel kernel) {
  __shared__ typename Kernel::Shared shared;
  const GridPlace place{blockIdx.x, threadIdx.x};
#pragma unroll
  for (int phase = 0; phase < Kernel::kNumPhases; ++phase) {
    if (phase > 0) __syncthreads();
    kernel.run(phase, place, shared);
  }
}

template <typename Kernel>
void launch(const Kernel& kernel, void* stream) {
  const int64_t num_blocks = kernel.num_blocks();
  if (num_blocks == 0) return;
  if (num_blocks > INT32_MAX) throw std::invalid_argument("a kernel has at most 2^31 - 1 blocks");
  run_kernel<Kernel><<<static_cast<unsigned>(num_blocks), Kernel::kNumThreads, 0,
                       static_cast<cudaStream_t>(stream)>>>(kernel);
  const cudaError_t status = cudaGetLastError();
  if (status != cudaSuccess) throw std::runtime_error(cudaGetErrorString(status));
}

#endif

}  // namespace temper
