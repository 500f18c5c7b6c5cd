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

at::Tensor view(const at::Tensor& flat, int64_t offset, const std::vector<int64_t>& shape,
                bool is_transposed) {
  if (!flat.defined()) return {};
  const at::Tensor elements = flat.narrow(0, offset, size_of(shape));
  return is_transposed ? elements.view({shape[1], shape[0]}).t() : elements.view(shape);
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

Weight Weight::transposed() const {
  Weight other(buffers_, offset_, {shape_[1], shape_[0]});
  other.is_transposed_ = !is_transposed_;
  return other;
}

at::Tensor Weight::value() const {
  return view(buffers_->weights, offset_, shape_, is_transposed_);
}

at::Tensor Weight::gradient() const {
  return view(buffers_->gradients, offset_, shape_, is_transposed_);
}

}  // namespace temper
