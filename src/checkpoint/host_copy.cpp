// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/host_copy.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "model/adapter/adapter.h"

namespace temper {
namespace {

constexpr std::array kKinds = {StateKind::kMaster, StateKind::kFirstMoment,
                               StateKind::kSecondMoment};

at::Tensor kept_of(const UnitState& state, StateKind kind) {
  return kind == StateKind::kMaster        ? state.loaded_weights()
         : kind == StateKind::kFirstMoment ? state.first_moment
                                           : state.second_moment;
}

at::Tensor owned_part(const UnitState& state, const at::Tensor& kept) {
  if (state.owned.is_empty()) return kept.narrow(0, 0, 0);
  return kept.narrow(0, state.owned.begin - state.kept.begin, state.owned.size());
}

// The dimension in which a saved tensor is larger than the first one that it is joined of.
int64_t joined_dimension(const TensorSlot& saved, const TensorSlot& first) {
  return saved.shape[0] == first.shape[0] ? 1 : 0;
}

}  // namespace

HostCopy::HostCopy(const UnitStore& store, Communicator& ranks, std::vector<UnitLayout> saved)
    : store_(store), ranks_(ranks), saved_(std::move(saved)) {
  if (saved_.empty()) {
    for (const int unit : store.trained()) saved_.push_back(store.state(unit).unit);
  }
  std::map<std::string, Source> stored;
  for (int unit = 0; unit < store.num_units(); ++unit) {
    for (const TensorSlot& slot : store.state(unit).unit.slots()) stored[slot.name] = {unit, slot};
  }
  for (const UnitLayout& one : saved_) {
    shards_.emplace_back(one.num_elements(), ranks.world_size());
    std::vector<Sources>& tensors = sources_.emplace_back();
    for (const TensorSlot& slot : one.slots()) {
      Sources& sources = tensors.emplace_back(Sources{stored.at(slot.name)});
      if (slot.shape != sources.front().slot.shape) {
        sources.push_back(stored.at(base_change_name(slot.name)));
      }
    }
  }
  for (auto& copies : copies_) copies.resize(saved_.size());
}

bool HostCopy::is_unit(int saved) const {
  const auto index = static_cast<size_t>(saved);
  const UnitLayout& unit = store_.state(sources_[index].front().front().unit).unit;
  return unit.slots() == saved_[index].slots();
}

// What is published alone, and what changes the base, has no moments.
bool HostCopy::is_saved(int saved, StateKind kind) const {
  const UnitLayout::Use use = saved_[static_cast<size_t>(saved)].use();
  const bool is_trained = use == UnitLayout::Use::kPublished || use == UnitLayout::Use::kPrivate;
  return is_trained || kind == StateKind::kMaster;
}

at::Tensor HostCopy::own_part(int saved, StateKind kind) const {
  if (!is_unit(saved)) return cut_anew(saved, kind);
  const auto index = static_cast<size_t>(saved);
  const UnitState& state = store_.state(sources_[index].front().front().unit);
  return owned_part(state, kept_of(state, kind));
}

at::Tensor HostCopy::gather(int unit, StateKind kind) const {
  const UnitState& state = store_.state(unit);
  const at::Tensor kept = kept_of(state, kind);
  if (kept.numel() == state.shards.padded_size()) return kept;
  const at::Tensor whole = at::empty({state.shards.padded_size()}, kept.options());
  ranks_.all_gather(kept, whole).wait();
  return whole;
}

at::Tensor HostCopy::cut_anew(int saved, StateKind kind) const {
  const auto index = static_cast<size_t>(saved);
  const Range own = owned(saved);
  const auto fp32 = at::TensorOptions().dtype(at::kFloat).device(store_.options().device);
  const at::Tensor slice = at::empty({own.size()}, fp32);
  std::map<int, at::Tensor> units;  // Those that the tensor at hand is joined of.
  for (size_t i = 0; i < sources_[index].size(); ++i) {
    const Sources& sources = sources_[index][i];
    std::erase_if(units, [&](const auto& one) {
      return std::ranges::find(sources, one.first, &Source::unit) == sources.end();
    });
    std::vector<at::Tensor> parts;
    for (const auto& [unit, slot] : sources) {
      at::Tensor& whole = units[unit];
      if (!whole.defined()) whole = gather(unit, kind);
      parts.push_back(whole.narrow(0, slot.offset, slot.num_elements()).view(slot.shape));
    }
    const TensorSlot& slot = saved_[index].slots()[i];
    const Range part = intersection(slot.range(), own);
    if (part.is_empty()) continue;
    if (parts.size() > 1) parts[0] = at::cat(parts, joined_dimension(slot, sources[0].slot));
    slice.narrow(0, part.begin - own.begin, part.size())
        .copy_(parts[0].flatten().narrow(0, part.begin - slot.offset, part.size()));
  }
  return slice;
}

template <typename Hold>
void HostCopy::hold_each(Hold hold) {
  for (size_t saved = 0; saved < saved_.size(); ++saved) {
    for (size_t i = 0; i < kKinds.size(); ++i) {
      if (!is_saved(static_cast<int>(saved), kKinds[i])) continue;
      hold(own_part(static_cast<int>(saved), kKinds[i]), copies_[i][saved]);
    }
  }
}

void HostCopy::take() {
  hold_each([](const at::Tensor& part, at::Tensor& copy) {
    const bool is_own = copy.defined() && !copy.is_alias_of(part);  // Not borrowed before.
    if (!is_own) copy = at::empty(part.sizes(), at::kFloat);
    copy.copy_(part);
  });
}

void HostCopy::borrow() {
  hold_each([](const at::Tensor& part, at::Tensor& copy) { copy = part.cpu(); });
}

std::span<const float> HostCopy::slice(const UnitFile& file) const {
  // What is published are the master weights, rounded while they are written.
  const size_t which = file.kind == StateKind::kSecondMoment  ? 2
                       : file.kind == StateKind::kFirstMoment ? 1
                                                              : 0;
  const at::Tensor& copy = copies_[which][static_cast<size_t>(file.unit)];
  return {copy.const_data_ptr<float>(), static_cast<size_t>(copy.numel())};
}

}  // namespace temper
