// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/host_copy.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>

#include "model/adapter/adapter.h"

namespace temper {
namespace {

constexpr std::array kKinds = {StateKind::kMaster, StateKind::kFirstMoment,
                               StateKind::kSecondMoment, StateKind::kMean};

// What changes the base is its own mean.
KeptNumbers kept_of(const UnitState& state, StateKind kind) {
  if (kind == StateKind::kFirstMoment) return state.first();
  if (kind == StateKind::kSecondMoment) return state.second();
  const bool is_mean = kind == StateKind::kMean && state.mean.defined();
  return is_mean ? state.means() : state.loaded();
}

// In fp32, in memory. Shapes: [kept].
at::Tensor decoded(const KeptNumbers& kept, Range elements) {
  if (kept.is_plain()) return kept.numbers;
  const at::Tensor whole = at::zeros({kept.kept.size()}, at::kFloat);
  const Range real = intersection(kept.kept, elements);
  kept.read(real, {whole.mutable_data_ptr<float>(), static_cast<size_t>(real.size())});
  return whole;
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
    if (one.use() == UnitLayout::Use::kPassedOn) continue;
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
  const UnitLayout& unit = saved_[static_cast<size_t>(saved)];
  if (unit.use() == UnitLayout::Use::kFrozen || unit.use() == UnitLayout::Use::kPassedOn) {
    return false;
  }
  if (unit.num_elements() == 0) return false;
  if (kind == StateKind::kMean) return store_.options().has_means() && !unit.changes_base();
  return unit.is_trained() || kind == StateKind::kMaster;
}

KeptNumbers HostCopy::own_part(int saved, StateKind kind) const {
  if (!is_unit(saved)) return {.numbers = cut_anew(saved, kind), .kept = owned(saved)};
  const auto index = static_cast<size_t>(saved);
  const UnitState& state = store_.state(sources_[index].front().front().unit);
  const Range own =
      state.owned.is_empty() ? Range{state.kept.begin, state.kept.begin} : state.owned;
  return kept_of(state, kind).narrow(own);
}

at::Tensor HostCopy::gather(int unit, StateKind kind) const {
  const UnitState& state = store_.state(unit);
  const at::Tensor kept = decoded(kept_of(state, kind), {0, state.unit.num_elements()});
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
  if (store_.is_offloaded()) throw std::logic_error("a copy of what does not fit into memory");
  hold_each([](const KeptNumbers& part, KeptNumbers& copy) {
    const auto copy_one = [](const at::Tensor& from, at::Tensor& to) {
      if (!from.defined()) return;
      const bool is_own = to.defined() && !to.is_alias_of(from);  // Not borrowed before.
      if (!is_own) to = at::empty(from.sizes(), from.scalar_type());
      to.copy_(from);
    };
    at::Tensor numbers = copy.numbers, scales = copy.scales;
    copy_one(part.numbers, numbers);
    copy_one(part.scales, scales);
    copy = part;
    copy.numbers = numbers;
    copy.scales = scales;
  });
}

void HostCopy::borrow() {
  hold_each([](const KeptNumbers& part, KeptNumbers& copy) {
    copy = part;
    copy.numbers = part.numbers.cpu();
  });
}

FilePart HostCopy::part(const UnitFile& file) const {
  // What is published are the means, or else the master weights, rounded while they are written.
  const auto unit = static_cast<size_t>(file.unit);
  StateKind kind = file.kind;
  if (kind == StateKind::kModel && is_saved(file.unit, StateKind::kMean)) kind = StateKind::kMean;
  const auto found = std::ranges::find(kKinds, kind);
  const size_t which = found == kKinds.end() ? 0 : static_cast<size_t>(found - kKinds.begin());
  const KeptNumbers& copy = copies_[which][unit];
  FilePart part;
  part.offset = file.bytes_of(copy.kept).begin;
  part.dtype = file.dtype;
  if (copy.is_plain()) {
    part.numbers = {copy.numbers.const_data_ptr<float>(), static_cast<size_t>(copy.kept.size())};
    return part;
  }
  part.source = {copy.kept.size(), [copy](Range range, std::span<float> out) {
                   const Range elements{copy.kept.begin + range.begin, copy.kept.begin + range.end};
                   copy.read(elements, out);
                   copy.release(elements);
                 }};
  return part;
}

}  // namespace temper
