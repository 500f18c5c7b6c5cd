// SPDX-License-Identifier: Apache-2.0
#include "zero/base_tensors.h"

#include <ATen/ATen.h>

#include <stdexcept>
#include <utility>

namespace temper {

int find_unit(const UnitStore& store, const std::string& name) {
  for (int unit = 0; unit < store.num_units(); ++unit) {
    if (store.state(unit).unit.find(name) != nullptr) return unit;
  }
  throw std::invalid_argument("the model has no tensor " + name);
}

at::Tensor BaseTensors::get(const std::string& name) {
  const int unit = find_unit(store_, name);
  if (gathered_ != unit) release();
  gathered_ = unit;
  const TensorSlot& slot = *store_.state(unit).unit.find(name);
  return store_.gather(unit).narrow(0, slot.offset, slot.num_elements()).view(slot.shape);
}

void BaseTensors::release() {
  if (gathered_ >= 0) store_.release(std::exchange(gathered_, -1));
}

}  // namespace temper
