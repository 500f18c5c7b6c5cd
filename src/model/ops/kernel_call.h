// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/DeviceAccelerator.h>
#include <ATen/core/Tensor.h>
#include <c10/core/DeviceGuard.h>

#include <stdexcept>

#include "core/chunk.h"
#include "core/kernel.h"

namespace temper {

/// Queues a kernel where a tensor lies, after what is queued there now.
template <typename Kernel>
void launch_beside(const at::Tensor& tensor, const Kernel& kernel) {
  const c10::DeviceGuard guard(tensor.device());
  const c10::Stream stream = at::accelerator::getCurrentStream(tensor.device().index());
  launch(kernel, stream.native_handle());
}

/// Where a kernel finds a tensor's numbers.
template <typename T>
T* place_of(const at::Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}
template <typename T>
const T* source_of(const at::Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}

/// Calls function(T{}) with T = float or Bf16.
template <typename Function>
void dispatch_kernel(at::ScalarType dtype, Function function) {
  switch (dtype) {
    case at::kFloat: return function(float{});
    case at::kBFloat16: return function(Bf16{});
    default: throw std::invalid_argument("kernels compute in float32 or bfloat16");
  }
}

}  // namespace temper
