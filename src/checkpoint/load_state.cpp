// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/load_state.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <bit>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/four_bit/stored_matrix.h"
#include "checkpoint/together.h"
#include "checkpoint/unit_files.h"
#include "comm/collective_ring.h"
#include "core/concat.h"
#include "core/error.h"
#include "core/floats.h"
#include "core/progress_bar.h"
#include "io/file.h"
#include "io/safetensors_folder.h"

namespace temper {
namespace {

// Whether numbers that are not finite are an error.
enum class NonFinite { kRefused, kAllowed };

constexpr int64_t kPieceElements = int64_t{1} << 21;  // 8 MiB of fp32: arbitrary.

void require_finite(std::span<const float> numbers, const SafetensorsFolder::Place& place) {
  if (all_finite(numbers)) return;
  throw ModelError(concat(place.file->path().string(), ": the tensor ", place.tensor->name,
                          " has numbers that are not finite"),
                   "use a model whose weights are whole");
}

// Elements `range` of one tensor; `destination` has as many.
void read_tensor(const SafetensorsFolder::Place& place, Range range, at::Tensor destination,
                 NonFinite non_finite) {
  at::Tensor buffer;  // Only for a destination that is not fp32 on the host.
  for (int64_t begin = range.begin; begin < range.end; begin += kPieceElements) {
    const Range piece{begin, std::min(range.end, begin + kPieceElements)};
    const at::Tensor target = destination.narrow(0, begin - range.begin, piece.size());
    const bool is_direct = target.is_cpu() && target.scalar_type() == at::kFloat;
    if (!is_direct && !buffer.defined()) buffer = at::empty({kPieceElements}, at::kFloat);
    const at::Tensor host = is_direct ? target : buffer.narrow(0, 0, piece.size());
    const std::span numbers(host.mutable_data_ptr<float>(), static_cast<size_t>(piece.size()));
    place.read_floats(piece, numbers);
    CollectiveRing::own().begin_idle();  // The others may wait long for this rank.
    if (non_finite == NonFinite::kRefused) require_finite(numbers, place);
    if (!is_direct) target.copy_(host);
  }
}

// The same for codes, and for what lies in a file. Pieces end where blocks do.
void fill_in_pieces(const SafetensorsFolder::Place& place, const TensorSlot& slot,
                    const KeptNumbers& numbers, NonFinite non_finite) {
  std::vector<float> buffer;
  const Range wanted = intersection(slot.range(), numbers.kept);
  for (int64_t begin = wanted.begin; begin < wanted.end;) {
    const Range piece{begin, std::min(wanted.end, (begin / kPieceElements + 1) * kPieceElements)};
    buffer.resize(static_cast<size_t>(piece.size()));
    place.read_floats({piece.begin - slot.offset, piece.end - slot.offset}, buffer);
    CollectiveRing::own().begin_idle();
    if (non_finite == NonFinite::kRefused) require_finite(buffer, place);
    numbers.write(piece, buffer);
    numbers.release(piece);
    begin = piece.end;
  }
}

// Reads this rank's part of one unit; what lies beyond the unit's end is left as it is.
void read_kept(const SafetensorsFolder& folder, const UnitState& state, const KeptNumbers& numbers,
               NonFinite non_finite) {
  for (const TensorSlot& slot : state.unit.slots()) {
    const Range wanted = intersection(slot.range(), state.kept);
    if (wanted.is_empty()) continue;
    if (numbers.file != nullptr || numbers.scales.defined()) {
      fill_in_pieces(*folder.find(slot.name), slot, numbers, non_finite);
      continue;
    }
    const Range range{wanted.begin - slot.offset, wanted.end - slot.offset};
    const at::Tensor part =
        numbers.numbers.narrow(0, wanted.begin - state.kept.begin, wanted.size());
    read_tensor(*folder.find(slot.name), range, part, non_finite);
  }
}

// What a set of files fills of a unit.
KeptNumbers destination_of(const UnitState& state, StateKind kind) {
  switch (kind) {
    case StateKind::kModel: break;  // Rounded: the master weights have more bits.
    case StateKind::kMaster: return state.masters();
    case StateKind::kFirstMoment: return state.first();
    case StateKind::kSecondMoment: return state.second();
    case StateKind::kMean: return state.means();
    case StateKind::kBaseChange: return state.loaded();
  }
  return {};
}

// The units of a store that a set of files has.
std::vector<int> units_of(const UnitFileSet& set, const UnitStore& store) {
  if (set.kind == StateKind::kMean && !store.options().has_means()) return {};
  if (set.kind != StateKind::kBaseChange) return store.trained();
  std::vector<int> units;
  for (int unit = 0; unit < store.num_units(); ++unit) {
    if (store.state(unit).unit.changes_base()) units.push_back(unit);
  }
  return units;
}

// The numbers of all sets that this rank keeps.
int64_t num_kept(const UnitStore& store) {
  int64_t count = 0;
  for (const UnitFileSet& set : kOptimizerFileSets) {
    for (const int unit : units_of(set, store)) count += store.state(unit).kept.size();
  }
  return count;
}

void load_set(const UnitFileSet& set, const VerifiedCheckpoint& checkpoint, UnitStore& store,
              ProgressBar& bar) {
  const std::vector<int> loaded = units_of(set, store);
  if (loaded.empty()) return;
  const std::filesystem::path folder = checkpoint.folder() / set.folder;
  const SafetensorsFolder tensors(folder, set.stem, FilePurpose::kCheckpoint);
  std::vector<UnitLayout> units;
  for (const int unit : loaded) units.push_back(store.state(unit).unit);
  try {
    require_tensors(tensors, units, concat(folder.string(), '/', set.stem));
  } catch (const ModelError& error) {  // The model itself is not to blame.
    throw CheckpointError(error.problem(), "use another checkpoint, or restore this one");
  }
  for (const int unit : loaded) {
    const UnitState& state = store.state(unit);
    read_kept(tensors, state, destination_of(state, set.kind), NonFinite::kAllowed);
    bar.add(state.kept.size());
  }
}

QuantisedSource source_of(const ModelFolder& folder, const TensorSlot& slot) {
  const StoredMatrix matrix(folder.weights(), slot, *folder.quantisation());
  return {[matrix](Range elements, std::span<uint8_t> codes, std::span<uint8_t> scales) {
            matrix.read(elements, codes, scales);
          },
          matrix.nested()};
}

// This rank's part of the matrices of a unit in four bits.
void read_matrices(const ModelFolder& folder, UnitState& state) {
  const at::Tensor slice = state.kept_weights();
  if (folder.quantisation()) {
    state.four_bit->read_quantised([&](const TensorSlot& slot) { return source_of(folder, slot); },
                                   slice);
    return;
  }
  const auto read = [&](const TensorSlot& slot, Range range, std::span<float> values) {
    const SafetensorsFolder::Place place = *folder.weights().find(slot.name);
    place.read_floats(range, values);
  };
  state.four_bit->read(read, slice);
}

// Units [begin, end), dense or what is dense of them.
void load_dense(const SafetensorsFolder& weights, Range units, UnitStore& store,
                Communicator& ranks) {
  int64_t num_wanted = 0;
  for (auto unit = static_cast<int>(units.begin); unit < units.end; ++unit) {
    num_wanted += store.state(unit).kept.size();
  }
  ProgressBar bar("loading", num_wanted, ProgressBar::Unit::kCount);
  do_together(ranks, [&] {
    for (auto unit = static_cast<int>(units.begin); unit < units.end; ++unit) {
      const UnitState& state = store.state(unit);
      read_kept(weights, state, state.loaded(), NonFinite::kRefused);
      bar.add(state.kept.size());
    }
  });
  for (auto unit = static_cast<int>(units.begin); unit < units.end; ++unit) store.publish(unit);
}

// Those before the units of an adapter, whose tensors no model has.
int num_model_units(const ModelFolder& folder, const UnitStore& store) {
  int count = 0;
  const auto is_of_model = [&](const UnitLayout& unit) {  // A tied head may have no tensor.
    return unit.slots().empty() || folder.weights().find(unit.slots().front().name) != nullptr;
  };
  while (count < store.num_units() && is_of_model(store.state(count).unit)) ++count;
  return count;
}

}  // namespace

void load_weights(const ModelFolder& folder, UnitStore& store, Communicator& ranks) {
  const int num_units = num_model_units(folder, store);
  ProgressBar bar(folder.quantisation() ? "loading" : "quantising", num_units,
                  ProgressBar::Unit::kCount);
  for (int unit = 0; unit < num_units; ++unit) {
    UnitState& state = store.state(unit);
    if (!state.four_bit) continue;
    do_together(ranks, [&] { read_matrices(folder, state); });
    state.four_bit->finish(state.kept_weights());
    bar.show(unit + 1);
  }
  load_dense(folder.weights(), {0, num_units}, store, ranks);
}

void load_adapter(const SafetensorsFolder& weights, int num_units, UnitStore& store,
                  Communicator& ranks) {
  load_dense(weights, {store.num_units() - num_units, store.num_units()}, store, ranks);
}

RunState load_checkpoint(const VerifiedCheckpoint& checkpoint, UnitStore& store,
                         Communicator& ranks) {
  RunState run_state;
  const auto read_all = [&] {
    run_state = read_run_state(checkpoint.folder());
    if (run_state.step != checkpoint.manifest().step) {
      throw CheckpointError(
          concat((checkpoint.folder() / "state.json").string(), " is that of step ", run_state.step,
                 ", not ", checkpoint.manifest().step),
          "use another checkpoint");
    }
    ProgressBar bar("loading", num_kept(store), ProgressBar::Unit::kCount);
    for (const UnitFileSet& set : kOptimizerFileSets) load_set(set, checkpoint, store, bar);
  };
  try_again(ranks, default_pauses(), [&] { do_together(ranks, read_all); });
  for (const UnitFileSet& set : {kMasterFiles, kBaseChangeFiles}) {
    for (const int unit : units_of(set, store)) store.publish(unit);
  }
  return run_state;
}

}  // namespace temper
