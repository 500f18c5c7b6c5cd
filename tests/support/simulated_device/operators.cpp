// SPDX-License-Identifier: Apache-2.0
// LibTorch's operators on the simulated device: the CPU's kernels, on what its memory holds.
#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <string>

#include "support/simulated_device/device_counts.h"
#include "support/simulated_device/device_memory.h"
#include "support/simulated_device/host_views.h"
#include "support/simulated_device/late_copies.h"

namespace temper::testing {
namespace {

constexpr c10::DispatchKeySet kKeys(c10::DispatchKey::PrivateUse1);
constexpr c10::DispatchKeySet kCpuKeys(c10::DispatchKey::CPU);

// Calls change(tensor) for each tensor among the values, and puts what it returns in its place.
template <typename Change>
void change_tensors(at::ArrayRef<c10::IValue> values, c10::Stack& stack, size_t first,
                    Change change) {
  for (size_t i = 0; i < values.size(); ++i) {
    c10::IValue& value = stack[first + i];
    if (value.isTensor()) {
      value = change(value.toTensor());
    } else if (value.isTensorList()) {
      std::vector<at::Tensor> tensors = value.toTensorVector();
      for (at::Tensor& tensor : tensors) tensor = change(tensor);
      value = tensors;
    } else if (value.isOptionalTensorList()) {
      c10::List<std::optional<at::Tensor>> tensors;
      for (const std::optional<at::Tensor>& one : value.toOptionalTensorVector()) {
        tensors.push_back(one ? std::optional(change(*one)) : std::nullopt);
      }
      value = tensors;
    }
  }
}

bool is_mask(const c10::IValue& indices) {
  const auto all = indices.toOptionalTensorVector();
  return std::ranges::any_of(all, [](const std::optional<at::Tensor>& one) {
    return one && one->defined() &&
           (one->scalar_type() == at::kBool || one->scalar_type() == at::kByte);
  });
}

// Whether a GPU's kernel would have to tell the host a size or a number before the call returns.
bool makes_host_wait(const c10::OperatorHandle& op, const c10::Stack& arguments) {
  const std::string& name = op.schema().name();
  if (name == "aten::index" || name == "aten::index_put_" || name == "aten::_index_put_impl_") {
    return is_mask(arguments[arguments.size() - op.schema().arguments().size() + 1]);
  }
  return op.hasTag(at::Tag::dynamic_output_shape) || op.hasTag(at::Tag::data_dependent_output);
}

void require_on_device(const c10::OperatorHandle& op, const at::Tensor& tensor) {
  TORCH_CHECK(!tensor.defined() || tensor.dim() == 0 || is_simulated(tensor), op.schema().name(),
              " got a tensor of the host, ", tensor.sizes(), ", beside one of the device");
}

void run(const c10::OperatorHandle& op, c10::Stack* stack) {
  count_launch(op.schema().name());
  if (makes_host_wait(op, *stack)) LateCopies::own().wait(op.schema().name());
  const size_t num_arguments = op.schema().arguments().size();
  const size_t first = stack->size() - num_arguments;
  HostViews views;
  change_tensors(torch::jit::last(*stack, num_arguments), *stack, first,
                 [&](const at::Tensor& tensor) {
                   require_on_device(op, tensor);
                   return is_simulated(tensor) ? views.of(tensor) : tensor;
                 });
  for (size_t i = first; i < stack->size(); ++i) {
    if ((*stack)[i].isDevice()) (*stack)[i] = at::Device(at::kCPU);
  }
  op.redispatchBoxed(kCpuKeys, stack);
  views.take_over_sizes();
  const size_t num_results = op.schema().returns().size();
  change_tensors(torch::jit::last(*stack, num_results), *stack, stack->size() - num_results,
                 [&](const at::Tensor& tensor) { return views.to_device(tensor); });
}

at::ScalarType dtype_of(const c10::IValue& value) {
  return value.toOptional<at::ScalarType>().value_or(at::kFloat);
}

// Of a size, a dtype, and at the end a memory format.
void empty(const c10::OperatorHandle& op, c10::Stack* stack) {
  const auto given = torch::jit::pop(*stack, op.schema().arguments().size());
  const auto format = given.back().toOptional<at::MemoryFormat>();
  torch::jit::push(
      *stack, at::Tensor(at::detail::empty_generic(given[0].toIntVector(), &DeviceMemory::own(),
                                                   kKeys, dtype_of(given[1]), format)));
}

// Of a size, strides and a dtype.
void empty_strided(const c10::OperatorHandle& op, c10::Stack* stack) {
  const auto given = torch::jit::pop(*stack, op.schema().arguments().size());
  torch::jit::push(*stack, at::Tensor(at::detail::empty_strided_generic(
                               given[0].toIntVector(), given[1].toIntVector(), &DeviceMemory::own(),
                               kKeys, dtype_of(given[2]))));
}

const at::Tensor& resize(const at::Tensor& self, c10::IntArrayRef size,
                         std::optional<at::MemoryFormat>) {
  const size_t needed = at::detail::computeStorageNbytesContiguous(
      size, self.element_size(), static_cast<size_t>(self.storage_offset()));
  const c10::Storage& storage = self.storage();
  if (needed > storage.nbytes()) {
    c10::DataPtr larger = DeviceMemory::own().allocate(needed);
    if (storage.nbytes() > 0) {
      DeviceMemory::own().copy_data(larger.get(), storage.data(), storage.nbytes());
    }
    storage.set_data_ptr_noswap(std::move(larger));
    storage.set_nbytes(needed);
  }
  self.unsafeGetTensorImpl()->set_sizes_contiguous(size);
  return self;
}

bool is_pinned(const at::Tensor& tensor) {
  return PinnedMemory::own().has(tensor.storage().data());
}

// Of what the host does not wait for, only contiguous numbers of one dtype: CUDA would wait, too.
bool is_late(const at::Tensor& on_host, const at::Tensor& other, bool non_blocking) {
  return non_blocking && is_pinned(on_host) && on_host.is_contiguous() &&
         on_host.scalar_type() == other.scalar_type();
}

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool non_blocking) {
  HostViews views;
  const auto num_bytes = static_cast<int64_t>(from.numel() * to.element_size());
  if (is_simulated(from) && is_simulated(to)) {
    count_launch("aten::copy_");
    views.of(to).copy_(views.of(from));
  } else if (is_simulated(to)) {
    count_copy_in(num_bytes);
    views.of(to).copy_(from);
    if (is_late(from, to, non_blocking)) {
      LateCopies::own().from_host(from);
    } else {
      LateCopies::own().wait("copy from the host");
    }
  } else {
    count_copy_out(num_bytes);
    if (is_late(to, from, non_blocking)) {
      LateCopies::own().to_host(views.of(from), to);
    } else {
      LateCopies::own().wait("copy to the host");
      to.copy_(views.of(from));
    }
  }
  return to;
}

at::Scalar to_scalar(const at::Tensor& tensor) {
  count_copy_out(tensor.element_size());
  LateCopies::own().wait("item");
  HostViews views;
  return views.of(tensor).item();
}

}  // namespace

TORCH_LIBRARY_IMPL(_, PrivateUse1, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&run>());
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("empty.memory_format", torch::CppFunction::makeFromBoxedFunction<&empty>());
  library.impl("empty_strided", torch::CppFunction::makeFromBoxedFunction<&empty_strided>());
  library.impl("resize_", TORCH_FN(resize));
  library.impl("as_strided", TORCH_FN(at::native::as_strided_tensorimpl));
  library.impl("view", TORCH_FN(at::native::view));
  library.impl("_reshape_alias", TORCH_FN(at::native::_reshape_alias));
  library.impl("unfold", TORCH_FN(at::native::unfold));
  library.impl("_copy_from", TORCH_FN(copy_from));
  library.impl("_local_scalar_dense", TORCH_FN(to_scalar));
}

}  // namespace temper::testing
