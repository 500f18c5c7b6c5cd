// SPDX-License-Identifier: Apache-2.0
// What an update does with what is kept.
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "comm/agree.h"
#include "core/random.h"
#include "optim/gradient_norm.h"
#include "optim/move_towards.h"
#include "zero/compact_update.h"
#include "zero/unit_store.h"

namespace temper {
namespace {

struct SlotStep {
  Range elements;
  AdamWStep step;
};

// What is done with the slots of a piece. Those that lie side by side and are treated alike are
// one where `joins`: on a device each step is several launches.
std::vector<SlotStep> slot_steps(const UnitLayout& unit, Range piece, const AdamWStep& step,
                                 bool joins) {
  std::vector<SlotStep> steps;
  for (const TensorSlot& slot : unit.slots()) {
    const Range range = intersection(slot.range(), piece);
    if (range.is_empty()) continue;
    AdamWStep own = step;
    own.weight_decay = slot.weight_decay.value_or(slot.decays ? step.weight_decay : 0.0);
    own.learning_rate *= slot.rate_ratio;
    const bool is_alike = !steps.empty() && steps.back().elements.end == range.begin &&
                          steps.back().step.weight_decay == own.weight_decay &&
                          steps.back().step.learning_rate == own.learning_rate;
    if (joins && is_alike) {
      steps.back().elements.end = range.end;
    } else {
      steps.push_back({range, own});
    }
  }
  return steps;
}

}  // namespace

// What is in a file is used in pieces, each of which leaves memory before the next one.
std::vector<Range> UnitStore::pieces_of(const UnitState& at_unit, Measured measured) const {
  constexpr int64_t kPiece = int64_t{1} << 22;  // Of shards' blocks: 48 MiB in fp32.
  if (!file_ && measured == Measured::kNo) return {at_unit.kept};
  std::vector<Range> pieces;
  for (int64_t begin = at_unit.kept.begin; begin < at_unit.kept.end; begin += kPiece) {
    pieces.push_back({begin, std::min(at_unit.kept.end, begin + kPiece)});
  }
  return pieces;
}

// What is computed with, of the master weights.
void UnitStore::round_weights(UnitState& at_unit, Range piece) {
  if (!at_unit.weights.defined() || !at_unit.master.defined()) return;
  const at::Tensor own = at_unit.kept_weights();
  if (at_unit.master.is_alias_of(own)) return;
  const KeptNumbers masters = at_unit.masters().narrow(piece);
  own.narrow(0, piece.begin - at_unit.kept.begin, piece.size()).copy_(masters.numbers);
  masters.release(piece);
}

void UnitStore::update_all_of(UnitState& at_unit, Range piece, const AdamWOptions& options,
                              AdamWStep step) {
  if (at_unit.start.defined()) pull_to_start(at_unit, piece, step.learning_rate);
  update_piece(at_unit, piece, options, step);
  if (at_unit.mean.defined()) follow_mean(at_unit, piece);
  if (!rounds_as_it_updates(at_unit)) round_weights(at_unit, piece);
}

std::vector<UpdateSize> UnitStore::update(const AdamWOptions& options, AdamWStep step,
                                          Measured measured) {
  std::vector<UpdateSize> sizes;
  for (const int unit : trained()) {
    UnitState& at_unit = state(unit);
    ExactSum moved, weights;
    for (const Range piece : pieces_of(at_unit, measured)) {
      const Range own = intersection(piece, at_unit.owned);
      const bool counts = measured == Measured::kYes && !own.is_empty();
      at::Tensor before;
      if (counts) before = at_unit.masters().narrow(own).numbers.clone();
      update_all_of(at_unit, piece, options, step);
      if (!counts) continue;
      add_squares(before, weights);
      add_squares(before.neg_().add_(at_unit.masters().narrow(own).numbers), moved);
      at_unit.masters().release(piece);
    }
    at_unit.gradient.reset();
    start_publishing(unit);
    if (measured == Measured::kNo) continue;
    for (ExactSum* sum : {&moved, &weights}) reduce_words(ranks_, sum->words(), ReduceOp::kSum);
    sizes.push_back({at_unit.unit.name(), std::sqrt(moved.value()), std::sqrt(weights.value())});
  }
  finish_publishing();
  return sizes;
}

// Where all is in memory, and the rank keeps the weights that are computed with.
bool UnitStore::rounds_as_it_updates(const UnitState& at_unit) const {
  return options_.moment_dtype == MomentDtype::kFloat32 && !is_offloaded() &&
         at_unit.form.dtype == at::kBFloat16 && at_unit.weights.defined();
}

void UnitStore::update_piece(UnitState& at_unit, Range piece, const AdamWOptions& options,
                             AdamWStep step) {
  CompactMoments moments{at_unit.first(), at_unit.second()};
  if (options_.moment_dtype == MomentDtype::kBfloat16) {
    moments.key = random_key(options_.rounding_seed, at_unit.unit.name());
  }
  const bool is_plain = options_.moment_dtype == MomentDtype::kFloat32;
  for (const auto& [range, slot_step] : slot_steps(at_unit.unit, piece, step, is_plain)) {
    const auto part = [&, own = range](const at::Tensor& kept) {
      return kept.narrow(0, own.begin - at_unit.kept.begin, own.size());
    };
    if (is_plain) {
      adamw_update({part(at_unit.master), gradient_of(at_unit, range), part(at_unit.first_moment),
                    part(at_unit.second_moment),
                    rounds_as_it_updates(at_unit) ? part(at_unit.kept_weights()) : at::Tensor()},
                   options, slot_step);
    } else {
      update_compactly(moments, range, part(at_unit.master), gradient_of(at_unit, range),
                       {options, slot_step});
    }
  }
  moments.first.release(piece);
  moments.second.release(piece);
}

// Decoupled, as weight decay is, and before the step: what moves a weight back is the same whatever
// its gradient's size.
void UnitStore::pull_to_start(UnitState& at_unit, Range piece, double learning_rate) const {
  for (const TensorSlot& slot : at_unit.unit.slots()) {
    const Range range = intersection(slot.range(), piece);
    if (range.is_empty()) continue;
    move_towards(at_unit.masters().narrow(range).numbers, at_unit.starts().narrow(range).numbers,
                 learning_rate * slot.rate_ratio * options_.l2_sp);
  }
  at_unit.starts().release(piece);
}

void UnitStore::follow_mean(UnitState& at_unit, Range piece) const {
  move_towards(at_unit.means().narrow(piece).numbers, at_unit.masters().narrow(piece).numbers,
               1.0 - options_.ema_decay);
  at_unit.means().release(piece);
}

void UnitStore::remember_start() {
  if (options_.update_form().num_copies == 0) return;
  for (const int unit : trained()) {
    const UnitState& at_unit = state(unit);
    for (const Range piece : pieces_of(at_unit)) {
      for (const KeptNumbers& copy : {at_unit.starts(), at_unit.means()}) {
        if (!copy.numbers.defined()) continue;
        copy.narrow(piece).numbers.copy_(at_unit.masters().narrow(piece).numbers);
        copy.release(piece);
      }
      at_unit.masters().release(piece);
    }
  }
}

void UnitStore::swap_means() {
  if (!options_.has_means()) return;
  for (const int unit : trained()) {
    UnitState& at_unit = state(unit);
    for (const Range piece : pieces_of(at_unit)) {
      const at::Tensor master = at_unit.masters().narrow(piece).numbers;
      const at::Tensor mean = at_unit.means().narrow(piece).numbers;
      const at::Tensor trained_weights = master.clone();
      master.copy_(mean);
      mean.copy_(trained_weights);
      at_unit.means().release(piece);
      round_weights(at_unit, piece);
    }
    start_publishing(unit);
  }
  finish_publishing();
}

}  // namespace temper
