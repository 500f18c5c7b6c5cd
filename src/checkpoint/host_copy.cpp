// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/host_copy.h"

#include <ATen/ATen.h>

namespace temper {
namespace {

void copy_owned(const UnitState& state, const at::Tensor& kept, at::Tensor& copy) {
  const Range owned = state.owned;
  if (!copy.defined()) copy = at::empty({owned.size()}, at::kFloat);
  if (!owned.is_empty()) copy.copy_(kept.narrow(0, owned.begin - state.kept.begin, owned.size()));
}

}  // namespace

void HostCopy::take(const UnitStore& store) {
  for (auto& copies : copies_) copies.resize(static_cast<size_t>(store.num_units()));
  for (int unit = 0; unit < store.num_units(); ++unit) {
    const UnitState& state = store.state(unit);
    const auto index = static_cast<size_t>(unit);
    copy_owned(state, state.master, copies_[0][index]);
    copy_owned(state, state.first_moment, copies_[1][index]);
    copy_owned(state, state.second_moment, copies_[2][index]);
  }
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
