// SPDX-License-Identifier: Apache-2.0
#include "zero/base_tensors.h"

#include <ATen/ATen.h>

#include <stdexcept>
#include <utility>

namespace temper {

at::Tensor BaseTensors::get(const std::string& name) {
  for (int unit = 0; unit < store_.num_units(); ++unit) {
    const TensorSlot* slot = store_.state(unit).unit.find(name);
    if (slot == nullptr) continue;
    if (gathered_ != unit) release();
    gathered_ = unit;
    return store_.gather(unit).narrow(0, slot->offset, slot->num_elements()).view(slot->shape);
  }
  throw std::invalid_argument("the model has no tensor " + name);
}

void BaseTensors::release() {
  if (gathered_ >= 0) store_.release(std::exchange(gathered_, -1));
}

}  // namespace temper
