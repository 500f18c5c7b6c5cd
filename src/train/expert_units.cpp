// SPDX-License-Identifier: Apache-2.0
#include "train/expert_units.h"

#include <algorithm>
#include <utility>

#include "model/ops/mixture.h"

namespace temper {

ExpertUnits::ExpertUnits(Decoder& decoder, UnitStore& store)
    : decoder_(decoder),
      store_(store),
      groups_(static_cast<size_t>(decoder.config().num_layers)),
      used_(groups_.size()) {
  for (int64_t layer = 0; layer < decoder.config().num_layers; ++layer) {
    // One of no units where the experts lie in the block's own.
    if (decoder.config().has_experts(layer)) groups_[static_cast<size_t>(layer)].resize(1);
  }
  for (int unit = 0; unit < decoder.num_units(); ++unit) {
    const ExpertGroup& own = decoder.units()[static_cast<size_t>(unit)].expert_group();
    if (!own.is_defined()) continue;
    std::vector<Units>& groups = groups_[static_cast<size_t>(own.layer)];
    groups.resize(std::max(groups.size(), static_cast<size_t>(own.number + 1)));
    groups[static_cast<size_t>(own.number)].push_back(unit);
  }
  decoder.borrow_experts(
      {.agree = [this](int64_t layer, std::vector<uint8_t>& used) { agree(layer, used); },
       .begin = [this](int64_t layer, size_t group) { begin(layer, group); },
       .end = [this](int64_t layer, size_t group) { end(layer, group); },
       .begin_backward = [this](int64_t layer, size_t g) { return begin_backward(layer, g); },
       .end_backward = [this](int64_t layer, size_t group) { end_backward(layer, group); }});
}

// What is computed again uses what it has used.
void ExpertUnits::agree(int64_t layer, std::vector<uint8_t>& used) {
  std::vector<uint8_t>& agreed = used_[static_cast<size_t>(layer)];
  if (direction_ == Direction::kForward) {
    if (!units_of(layer, 0).empty()) store_.agree_on_any(used);
    agreed = used;
  }
  used = agreed;
}

void ExpertUnits::prefetch_after(int64_t layer, size_t group) {
  const std::vector<uint8_t>& used = used_[static_cast<size_t>(layer)];
  while (++group < used.size()) {
    if (used[group] == 0) continue;
    for (const int unit : units_of(layer, group)) store_.prefetch(unit);
    return;
  }
}

void ExpertUnits::begin(int64_t layer, size_t group) {
  for (const int unit : units_of(layer, group)) {
    UnitBuffers& buffers = decoder_.buffers(unit);
    buffers.weights = store_.gather(unit);
    buffers.version = {store_.state(unit).version};
  }
  prefetch_after(layer, group);
}

void ExpertUnits::end(int64_t layer, size_t group) {
  for (const int unit : units_of(layer, group)) {
    decoder_.buffers(unit).weights.reset();
    store_.release(unit);
  }
}

// Where others may have gradients of a unit that this rank does not know of, it has zeros.
bool ExpertUnits::begin_backward(int64_t layer, size_t group) {
  const bool is_used = used_[static_cast<size_t>(layer)][group] != 0;
  if (!is_used && store_.knows_use_of_all()) return false;
  if (is_used) begin(layer, group);
  for (const int unit : units_of(layer, group)) {
    if (store_.is_trained(unit)) decoder_.buffers(unit).gradients = store_.gradient_buffer(unit);
  }
  return true;
}

void ExpertUnits::end_backward(int64_t layer, size_t group) {
  if (used_[static_cast<size_t>(layer)][group] != 0) end(layer, group);
  for (const int unit : units_of(layer, group)) {
    if (!store_.is_trained(unit)) continue;
    decoder_.buffers(unit).gradients.reset();
    store_.reduce(unit);
  }
}

void ExpertUnits::join_forward(int64_t layer) {
  const size_t num_groups = groups_[static_cast<size_t>(layer)].size();
  if (num_groups == 0) return;
  std::vector<uint8_t> used(num_groups, 0);
  agree(layer, used);
  for (size_t group = 0; group < num_groups; ++group) {
    if (used[group] == 0) continue;
    begin(layer, group);
    end(layer, group);
  }
}

void ExpertUnits::join_backward(int64_t layer) {
  for (size_t group = 0; group < groups_[static_cast<size_t>(layer)].size(); ++group) {
    if (begin_backward(layer, group)) end_backward(layer, group);
  }
}

}  // namespace temper
