// SPDX-License-Identifier: Apache-2.0
#include "model/adapter/adapter.h"

#include <algorithm>
#include <utility>

namespace temper {
namespace {

UnitLayout layout_of(const std::string& name, const std::vector<AdapterTensor>& tensors) {
  std::vector<TensorSlot> slots;
  for (const AdapterTensor& tensor : tensors) slots.push_back(tensor.slot);
  return {name, std::move(slots)};
}

AdapterUnit make_unit(const std::string& name, const std::vector<AdapterTensor>& tensors) {
  AdapterUnit unit{.layout = layout_of(name, tensors), .buffers = std::make_shared<UnitBuffers>()};
  for (const AdapterTensor& tensor : tensors) unit.initial.push_back(tensor.initial);
  return unit;
}

}  // namespace

Adapter::Adapter(const std::vector<AdapterTensor>& tensors, std::shared_ptr<Dropout> its_dropout,
                 int64_t num_layers)
    : file(layout_of("adapter", tensors)),
      units{make_unit("adapter", tensors)},
      dropout(std::move(its_dropout)),
      blocks(static_cast<size_t>(num_layers)) {}

void Adapter::add_projection(PrefixProjection made) {
  units.push_back({.layout = made.unit(), .initial = made.initial()});
  projection = std::move(made);
}

Weight Adapter::use(const std::string& name, int user, const std::vector<int64_t>& shape) {
  for (AdapterUnit& unit : units) {
    const TensorSlot* slot = unit.layout.find(name);
    if (slot == nullptr) continue;
    const auto place = std::ranges::lower_bound(unit.users, user);
    if (place == unit.users.end() || *place != user) unit.users.insert(place, user);
    return Weight(unit.buffers, slot->offset, shape.empty() ? slot->shape : shape);
  }
  return {};
}

std::vector<UnitLayout> Adapter::layouts() const {
  std::vector<UnitLayout> all;
  for (const AdapterUnit& unit : units) all.push_back(unit.layout);
  return all;
}

std::vector<UnitLayout> Adapter::files() const {
  std::vector<UnitLayout> all = {file};
  if (projection) all.push_back(projection->unit());
  return all;
}

}  // namespace temper
