// SPDX-License-Identifier: Apache-2.0
#include "model/adapter/adapter.h"

#include <algorithm>
#include <utility>

#include "core/concat.h"

namespace temper {
namespace {

using Use = UnitLayout::Use;

// Of those that have this use.
UnitLayout layout_of(const std::string& name, const std::vector<AdapterTensor>& tensors, Use use) {
  std::vector<TensorSlot> slots;
  for (const AdapterTensor& tensor : tensors) {
    if (tensor.use == use) slots.push_back(tensor.slot);
  }
  return {name, std::move(slots), use};
}

AdapterUnit make_unit(const std::string& name, const std::vector<AdapterTensor>& tensors) {
  AdapterUnit unit{.layout = layout_of(name, tensors, tensors.front().use),
                   .buffers = std::make_shared<UnitBuffers>()};
  for (const AdapterTensor& tensor : tensors) unit.initial.push_back(tensor.initial);
  return unit;
}

// Of the tensors with this use, one a layer that has some, then one of all others.
void add_units(const std::string& name, const std::vector<AdapterTensor>& tensors, Use use,
               int64_t num_layers, std::vector<AdapterUnit>& units) {
  std::vector<std::vector<AdapterTensor>> groups(static_cast<size_t>(num_layers + 1));
  for (const AdapterTensor& tensor : tensors) {
    const int64_t group = tensor.layer == AdapterTensor::kNoLayer ? num_layers : tensor.layer;
    if (tensor.use == use) groups[static_cast<size_t>(group)].push_back(tensor);
  }
  for (int64_t layer = 0; layer <= num_layers; ++layer) {
    const std::vector<AdapterTensor>& group = groups[static_cast<size_t>(layer)];
    if (group.empty()) continue;
    const bool is_layer = layer < num_layers;
    units.push_back(make_unit(is_layer ? concat(name, ".layers.", layer) : name, group));
  }
}

std::vector<AdapterUnit> make_units(const std::vector<AdapterTensor>& tensors, int64_t num_layers) {
  std::vector<AdapterUnit> units;
  add_units("adapter", tensors, Use::kPublished, num_layers, units);
  add_units("base_change", tensors, Use::kBaseChange, num_layers, units);
  return units;
}

}  // namespace

std::string base_change_name(const std::string& name) { return name + ".base_change"; }

Adapter::Adapter(const std::vector<AdapterTensor>& tensors, std::shared_ptr<Dropout> its_dropout,
                 int64_t num_layers)
    : file(layout_of("adapter", tensors, Use::kPublished)),
      units(make_units(tensors, num_layers)),
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

}  // namespace temper
