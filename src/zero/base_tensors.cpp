// SPDX-License-Identifier: Apache-2.0
#include "zero/base_tensors.h"

#include <ATen/ATen.h>

#include <iterator>
#include <stdexcept>
#include <utility>

namespace temper {

at::Tensor BaseTensors::get(const std::string& name) {
  for (int unit = 0; unit < std::ssize(units_); ++unit) {
    const TensorSlot* slot = units_[static_cast<size_t>(unit)].find(name);
    if (slot == nullptr) continue;
    if (gathered_ != unit) release();
    gathered_ = unit;
    return weights_.gather(unit).narrow(0, slot->offset, slot->num_elements()).view(slot->shape);
  }
  throw std::invalid_argument("the model has no tensor " + name);
}

void BaseTensors::release() {
  if (gathered_ >= 0) weights_.release(std::exchange(gathered_, -1));
}

}  // namespace temper
