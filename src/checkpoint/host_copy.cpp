// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/host_copy.h"

#include <ATen/ATen.h>

namespace temper {
namespace {

at::Tensor owned_part(const UnitState& state, const at::Tensor& kept) {
  if (state.owned.is_empty()) return kept.narrow(0, 0, 0);
  return kept.narrow(0, state.owned.begin - state.kept.begin, state.owned.size());
}

}  // namespace

template <typename Hold>
void HostCopy::hold_each(const UnitStore& store, Hold hold) {
  for (auto& copies : copies_) copies.resize(static_cast<size_t>(store.num_units()));
  for (int unit = 0; unit < store.num_units(); ++unit) {
    const UnitState& state = store.state(unit);
    const auto index = static_cast<size_t>(unit);
    hold(owned_part(state, state.master), copies_[0][index]);
    hold(owned_part(state, state.first_moment), copies_[1][index]);
    hold(owned_part(state, state.second_moment), copies_[2][index]);
  }
}

void HostCopy::take(const UnitStore& store) {
  hold_each(store, [](const at::Tensor& part, at::Tensor& copy) {
    const bool is_own = copy.defined() && !copy.is_alias_of(part);  // Not borrowed before.
    if (!is_own) copy = at::empty(part.sizes(), at::kFloat);
    copy.copy_(part);
  });
}

void HostCopy::borrow(const UnitStore& store) {
  hold_each(store, [](const at::Tensor& part, at::Tensor& copy) { copy = part.cpu(); });
}

std::span<const float> HostCopy::slice(const UnitFile& file) const {
  // The saved weights are the master's, rounded while they are written.
  const size_t which = file.kind == StateKind::kSecondMoment  ? 2
                       : file.kind == StateKind::kFirstMoment ? 1
                                                              : 0;
  const at::Tensor& copy = copies_[which][static_cast<size_t>(file.unit)];
  return {copy.const_data_ptr<float>(), static_cast<size_t>(copy.numel())};
}

}  // namespace temper
