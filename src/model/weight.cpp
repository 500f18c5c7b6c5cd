// SPDX-License-Identifier: Apache-2.0
#include "model/weight.h"

#include <ATen/ATen.h>

#include <utility>

namespace temper {
namespace {

at::Tensor view(const at::Tensor& flat, int64_t offset, const std::vector<int64_t>& shape) {
  if (!flat.defined()) return {};
  int64_t size = 1;
  for (const int64_t length : shape) size *= length;
  return flat.narrow(0, offset, size).view(shape);
}

}  // namespace

Weight::Weight(std::shared_ptr<const UnitBuffers> buffers, int64_t offset,
               std::vector<int64_t> shape)
    : buffers_(std::move(buffers)), offset_(offset), shape_(std::move(shape)) {}

at::Tensor Weight::value() const { return view(buffers_->weights, offset_, shape_); }

at::Tensor Weight::gradient() const { return view(buffers_->gradients, offset_, shape_); }

}  // namespace temper
