// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/host_copy.h"

#include <ATen/ATen.h>

#include <span>
#include <stdexcept>
#include <utility>

namespace temper {
namespace {

constexpr std::array kKinds = {StateKind::kMaster, StateKind::kFirstMoment,
                               StateKind::kSecondMoment};

KeptNumbers kept_of(const UnitState& state, StateKind kind) {
  return kind == StateKind::kMaster        ? state.masters()
         : kind == StateKind::kFirstMoment ? state.first()
                                           : state.second();
}

// In fp32, in memory. Shapes: [kept].
at::Tensor decoded(const KeptNumbers& kept, Range elements) {
  if (kept.is_plain()) return kept.numbers;
  const at::Tensor whole = at::zeros({kept.kept.size()}, at::kFloat);
  const Range real = intersection(kept.kept, elements);
  kept.read(real, {whole.mutable_data_ptr<float>(), static_cast<size_t>(real.size())});
  return whole;
}

}  // namespace

HostCopy::HostCopy(const UnitStore& store, Communicator& ranks, std::vector<UnitLayout> saved)
    : store_(store), ranks_(ranks), saved_(std::move(saved)) {
  if (saved_.empty()) {
    for (const int unit : store.trained()) saved_.push_back(store.state(unit).unit);
  }
  for (const UnitLayout& one : saved_) {
    shards_.emplace_back(one.num_elements(), ranks.world_size());
    std::vector<Piece>& pieces = pieces_.emplace_back();
    for (const int unit : store.trained()) {
      for (const TensorSlot& slot : store.state(unit).unit.slots()) {
        const TensorSlot* place = one.find(slot.name);
        if (place != nullptr) pieces.push_back({unit, slot.range(), place->offset});
      }
    }
  }
  for (auto& copies : copies_) copies.resize(saved_.size());
}

bool HostCopy::is_unit(int saved) const {
  const auto index = static_cast<size_t>(saved);
  const UnitLayout& unit = store_.state(pieces_[index].front().unit).unit;
  return unit.slots() == saved_[index].slots();
}

KeptNumbers HostCopy::own_part(int saved, StateKind kind) const {
  if (!is_unit(saved)) return {.numbers = cut_anew(saved, kind), .kept = owned(saved)};
  const UnitState& state = store_.state(pieces_[static_cast<size_t>(saved)].front().unit);
  const Range own =
      state.owned.is_empty() ? Range{state.kept.begin, state.kept.begin} : state.owned;
  return kept_of(state, kind).narrow(own);
}

at::Tensor HostCopy::cut_anew(int saved, StateKind kind) const {
  const Range own = owned(saved);
  const auto fp32 = at::TensorOptions().dtype(at::kFloat).device(store_.options().device);
  const at::Tensor slice = at::empty({own.size()}, fp32);
  int gathered = -1;
  at::Tensor whole;
  for (const Piece& piece : pieces_[static_cast<size_t>(saved)]) {
    const UnitState& state = store_.state(piece.unit);
    if (std::exchange(gathered, piece.unit) != piece.unit) {
      whole = decoded(kept_of(state, kind), {0, state.unit.num_elements()});
      if (whole.numel() < state.shards.padded_size()) {
        const at::Tensor kept = whole;
        whole = at::empty({state.shards.padded_size()}, fp32);
        ranks_.all_gather(kept, whole).wait();
      }
    }
    const Range part = intersection({piece.place, piece.place + piece.elements.size()}, own);
    if (part.is_empty()) continue;
    const int64_t from = piece.elements.begin + part.begin - piece.place;
    slice.narrow(0, part.begin - own.begin, part.size()).copy_(whole.narrow(0, from, part.size()));
  }
  return slice;
}

template <typename Hold>
void HostCopy::hold_each(Hold hold) {
  for (size_t saved = 0; saved < saved_.size(); ++saved) {
    for (size_t i = 0; i < kKinds.size(); ++i) {
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
  // The saved weights are the master's, rounded while they are written.
  const size_t which = file.kind == StateKind::kSecondMoment  ? 2
                       : file.kind == StateKind::kFirstMoment ? 1
                                                              : 0;
  const KeptNumbers& copy = copies_[which][static_cast<size_t>(file.unit)];
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
