// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace temper::testing {

at::Device simulated_device();

/// Whether a tensor is defined and lies on the simulated device.
bool is_simulated(const at::Tensor& tensor);

/// The device's tensors of one call, as the CPU's kernels see them: CPU tensors over the contents.
class HostViews {
 public:
  /// The view of a tensor of the device; the same one each time.
  at::Tensor of(const at::Tensor& tensor);

  /// What a kernel has returned, as a tensor of the device: one of the call's, a view of one, or a
  /// new one.
  at::Tensor to_device(const at::Tensor& result) const;

  /// Gives the device's tensors the sizes that the kernel has given their views.
  void take_over_sizes() const;

 private:
  struct Pair {
    at::Tensor on_device, view;
    const void* contents;
  };
  c10::Storage storage_of(const at::Tensor& tensor);

  std::vector<Pair> pairs_;
};

}  // namespace temper::testing
