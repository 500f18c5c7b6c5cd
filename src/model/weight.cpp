// SPDX-License-Identifier: Apache-2.0
#include "model/weight.h"

#include <ATen/ATen.h>

#include <utility>

namespace temper {
namespace {

int64_t size_of(const std::vector<int64_t>& shape) {
  int64_t size = 1;
  for (const int64_t length : shape) size *= length;
  return size;
}

at::Tensor view(const at::Tensor& flat, int64_t offset, const std::vector<int64_t>& shape) {
  if (!flat.defined()) return {};
  return flat.narrow(0, offset, size_of(shape)).view(shape);
}

}  // namespace

Weight::Weight(std::shared_ptr<const UnitBuffers> buffers, int64_t offset,
               std::vector<int64_t> shape)
    : buffers_(std::move(buffers)), offset_(offset), shape_(std::move(shape)) {}

Weight Weight::part(int64_t index) const {
  std::vector<int64_t> shape(shape_.begin() + 1, shape_.end());
  const int64_t offset = offset_ + index * size_of(shape);
  return {buffers_, offset, std::move(shape)};
}

bool Weight::follows(const Weight& before) const {
  return buffers_ == before.buffers_ && offset_ == before.offset_ + size_of(before.shape_);
}

at::Tensor Weight::value() const { return view(buffers_->weights, offset_, shape_); }

at::Tensor Weight::gradient() const { return view(buffers_->gradients, offset_, shape_); }

}  // namespace temper
