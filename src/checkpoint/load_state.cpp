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
    place.file->read_floats(*place.tensor, piece, numbers);
    CollectiveRing::own().begin_idle();  // The others may wait long for this rank.
    if (non_finite == NonFinite::kRefused) require_finite(numbers, place);
    if (!is_direct) target.copy_(host);
  }
}

// Reads this rank's part of one unit into `destination` [state.kept.size()]; what lies beyond the
// unit's end is left as it is.
void read_kept(const SafetensorsFolder& folder, const UnitState& state, at::Tensor destination,
               NonFinite non_finite) {
  for (const TensorSlot& slot : state.unit.slots()) {
    const Range wanted = intersection(slot.range(), state.kept);
    if (wanted.is_empty()) continue;
    const Range range{wanted.begin - slot.offset, wanted.end - slot.offset};
    const at::Tensor part = destination.narrow(0, wanted.begin - state.kept.begin, wanted.size());
    read_tensor(*folder.find(slot.name), range, part, non_finite);
  }
}

// The tensor of one unit that a set of files fills; undefined if the store does not keep it.
at::Tensor destination_of(const UnitState& state, StateKind kind) {
  switch (kind) {
    case StateKind::kModel: break;  // Rounded: the master weights have more bits.
    case StateKind::kMaster: return state.loaded_weights();
    case StateKind::kFirstMoment: return state.first_moment;
    case StateKind::kSecondMoment: return state.second_moment;
  }
  return {};
}

void load_set(const UnitFileSet& set, const VerifiedCheckpoint& checkpoint, UnitStore& store) {
  if (!destination_of(store.state(0), set.kind).defined()) return;
  const std::filesystem::path folder = checkpoint.folder() / set.folder;
  const SafetensorsFolder tensors(folder, set.stem, FilePurpose::kCheckpoint);
  std::vector<UnitLayout> units;
  for (int unit = 0; unit < store.num_units(); ++unit) units.push_back(store.state(unit).unit);
  try {
    require_tensors(tensors, units, concat(folder.string(), '/', set.stem));
  } catch (const ModelError& error) {  // The model itself is not to blame.
    throw CheckpointError(error.problem(), "use another checkpoint, or restore this one");
  }
  for (int unit = 0; unit < store.num_units(); ++unit) {
    UnitState& state = store.state(unit);
    read_kept(tensors, state, destination_of(state, set.kind), NonFinite::kAllowed);
  }
}

QuantisedSource source_of(const ModelFolder& folder, const TensorSlot& slot) {
  const StoredMatrix matrix(folder.weights(), slot, *folder.quantisation());
  return {[matrix](Range elements, std::span<uint8_t> codes, std::span<uint8_t> scales) {
            matrix.read(elements, codes, scales);
          },
          matrix.nested()};
}

}  // namespace

void load_weights(const SafetensorsFolder& weights, UnitStore& store, Communicator& ranks) {
  do_together(ranks, [&] {
    for (int unit = 0; unit < store.num_units(); ++unit) {
      UnitState& state = store.state(unit);
      read_kept(weights, state, state.loaded_weights(), NonFinite::kRefused);
    }
  });
  store.publish_weights();
}

void load_weights(const ModelFolder& folder, QuantisedUnits& units, Communicator& ranks) {
  for (int unit = 0; unit < units.num_units(); ++unit) {
    do_together(ranks, [&] {
      if (folder.quantisation()) {
        units.read_quantised(unit, [&](const TensorSlot& slot) { return source_of(folder, slot); });
      } else {
        units.read(unit, [&](const TensorSlot& slot, Range range, std::span<float> values) {
          const SafetensorsFolder::Place place = *folder.weights().find(slot.name);
          place.file->read_floats(*place.tensor, range, values);
        });
      }
    });
    units.finish(unit);
  }
  load_weights(folder.weights(), units.unquantised(), ranks);
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
    for (const UnitFileSet& set : kOptimizerFileSets) load_set(set, checkpoint, store);
  };
  try_again(ranks, default_pauses(), [&] { do_together(ranks, read_all); });
  store.publish_weights();
  return run_state;
}

}  // namespace temper
