// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/host_copy.h"

#include <ATen/ATen.h>

#include <utility>

namespace temper {
namespace {

constexpr std::array kKinds = {StateKind::kMaster, StateKind::kFirstMoment,
                               StateKind::kSecondMoment};

const at::Tensor& kept_of(const UnitState& state, StateKind kind) {
  return kind == StateKind::kMaster        ? state.master
         : kind == StateKind::kFirstMoment ? state.first_moment
                                           : state.second_moment;
}

at::Tensor owned_part(const UnitState& state, const at::Tensor& kept) {
  if (state.owned.is_empty()) return kept.narrow(0, 0, 0);
  return kept.narrow(0, state.owned.begin - state.kept.begin, state.owned.size());
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

at::Tensor HostCopy::own_part(int saved, StateKind kind) const {
  if (!is_unit(saved)) return cut_anew(saved, kind);
  const UnitState& state = store_.state(pieces_[static_cast<size_t>(saved)].front().unit);
  return owned_part(state, kept_of(state, kind));
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
      whole = kept_of(state, kind);
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
    if (!saved_[saved].is_trained()) continue;
    for (size_t i = 0; i < kKinds.size(); ++i) {
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
  // The saved weights are the master's, rounded while they are written.
  const size_t which = file.kind == StateKind::kSecondMoment  ? 2
                       : file.kind == StateKind::kFirstMoment ? 1
                                                              : 0;
  const at::Tensor& copy = copies_[which][static_cast<size_t>(file.unit)];
  return {copy.const_data_ptr<float>(), static_cast<size_t>(copy.numel())};
}

}  // namespace temper
