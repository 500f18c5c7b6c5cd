// SPDX-License-Identifier: Apache-2.0
#include "support/simulated_device/host_views.h"

#include <ATen/ATen.h>

#include <cstring>

#include "support/simulated_device/device_memory.h"

namespace temper::testing {
namespace {

void* contents_of(const at::Tensor& tensor) {
  const void* const address = tensor.storage().data();
  return address == nullptr ? nullptr : DeviceMemory::own().on_host(address);
}

// A tensor of the device with all that the storage of a host's tensor has.
at::Tensor moved(const at::Tensor& tensor) {
  at::Tensor result = at::empty({0}, tensor.options().device(simulated_device()));
  const size_t num_bytes = tensor.storage().nbytes();
  c10::Storage storage = result.storage();
  storage.set_data_ptr_noswap(DeviceMemory::own().allocate(num_bytes));
  storage.set_nbytes(num_bytes);
  if (num_bytes > 0) std::memcpy(contents_of(result), tensor.storage().data(), num_bytes);
  result.unsafeGetTensorImpl()->set_sizes_and_strides(tensor.sizes(), tensor.strides(),
                                                      tensor.storage_offset());
  return result;
}

}  // namespace

at::Device simulated_device() { return {at::DeviceType::PrivateUse1, 0}; }

bool is_simulated(const at::Tensor& tensor) {
  return tensor.defined() && tensor.device().type() == at::DeviceType::PrivateUse1;
}

// Tensors that share memory on the device share it here, so that kernels see what overlaps.
c10::Storage HostViews::storage_of(const at::Tensor& tensor) {
  for (const Pair& pair : pairs_) {
    if (pair.on_device.storage().is_alias_of(tensor.storage())) return pair.view.storage();
  }
  return {c10::Storage::use_byte_size_t(), tensor.storage().nbytes(),
          c10::DataPtr(contents_of(tensor), at::kCPU), c10::GetAllocator(at::kCPU),
          /*resizable=*/true};
}

at::Tensor HostViews::of(const at::Tensor& tensor) {
  for (const Pair& pair : pairs_) {
    if (pair.on_device.is_same(tensor)) return pair.view;
  }
  const at::Tensor view = at::detail::make_tensor<c10::TensorImpl>(
      storage_of(tensor), c10::DispatchKeySet(c10::DispatchKey::CPU), tensor.dtype());
  view.unsafeGetTensorImpl()->set_sizes_and_strides(tensor.sizes(), tensor.strides(),
                                                    tensor.storage_offset());
  if (tensor.is_conj()) view._set_conj(true);
  pairs_.push_back({tensor, view, view.storage().data()});
  return view;
}

at::Tensor HostViews::to_device(const at::Tensor& result) const {
  if (!result.defined()) return result;
  for (const Pair& pair : pairs_) {
    if (pair.view.is_same(result)) return pair.on_device;
  }
  for (const Pair& pair : pairs_) {
    if (pair.view.storage().is_alias_of(result.storage())) {
      return at::as_strided(pair.on_device, result.sizes(), result.strides(),
                            result.storage_offset());
    }
  }
  return moved(result);
}

void HostViews::take_over_sizes() const {
  for (const Pair& pair : pairs_) {
    const bool has_grown = pair.view.storage().data() != pair.contents;
    if (!has_grown && pair.view.sizes() == pair.on_device.sizes()) continue;
    pair.on_device.resize_(pair.view.sizes());
    if (has_grown)
      std::memcpy(contents_of(pair.on_device), pair.view.data_ptr(), pair.view.nbytes());
  }
}

}  // namespace temper::testing
