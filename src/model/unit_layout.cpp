// SPDX-License-Identifier: Apache-2.0
#include "model/unit_layout.h"

#include <algorithm>
#include <stdexcept>

namespace temper {

int64_t TensorSlot::num_elements() const {
  int64_t product = 1;
  for (const int64_t size : shape) product *= size;
  return product;
}

UnitLayout::UnitLayout(std::string name, std::vector<TensorSlot> slots, Use use,
                       ExpertGroup experts)
    : name_(std::move(name)), slots_(std::move(slots)), use_(use), experts_(experts) {
  for (TensorSlot& slot : slots_) {
    slot.offset = num_elements_;
    num_elements_ += slot.num_elements();
  }
}

const TensorSlot* UnitLayout::find(std::string_view slot_name) const {
  const auto slot = std::find_if(slots_.begin(), slots_.end(),
                                 [&](const TensorSlot& each) { return each.name == slot_name; });
  return slot == slots_.end() ? nullptr : &*slot;
}

int64_t num_elements(const std::vector<UnitLayout>& units) {
  int64_t sum = 0;
  for (const UnitLayout& unit : units) sum += unit.num_elements();
  return sum;
}

}  // namespace temper
