// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/frozen_tensors.h"

#include <algorithm>

#include "checkpoint/unit_files.h"
#include "core/concat.h"
#include "core/error.h"

namespace temper {
namespace {

constexpr int64_t kSample = 1024;  // Of each tensor, in elements; training changes every tensor.

using Place = SafetensorsFolder::Place;

void read_range(const SafetensorsFolder& base, const UnitLayout& unit, Range range,
                std::span<float> numbers) {
  for (const TensorSlot& slot : unit.slots()) {
    const Range part = intersection(slot.range(), range);
    if (part.is_empty()) continue;
    const Place& place = *base.find(slot.name);
    place.read_floats({part.begin - slot.offset, part.end - slot.offset},
                      numbers.subspan(static_cast<size_t>(part.begin - range.begin),
                                      static_cast<size_t>(part.size())));
  }
}

// The beginning of a tensor in a dtype.
std::vector<std::byte> sample(const Place& place, DType dtype) {
  std::vector<float> numbers(static_cast<size_t>(std::min(kSample, place.tensor->num_elements())));
  place.read_floats({0, std::ssize(numbers)}, numbers);
  std::vector<std::byte> bytes(numbers.size() * static_cast<size_t>(num_bits(dtype) / 8));
  from_floats(dtype, numbers, bytes);
  return bytes;
}

void read_range(const SafetensorsFolder& base, const UnitLayout& unit, Range range,
                std::span<std::byte> bytes) {
  for (const TensorSlot& slot : unit.slots()) {
    const Range part = intersection(slot.range(), range);
    if (part.is_empty()) continue;
    const Place& place = *base.find(slot.name);
    place.file->read(place.tensor->bytes.begin + part.begin - slot.offset,
                     bytes.subspan(static_cast<size_t>(part.begin - range.begin),
                                   static_cast<size_t>(part.size())));
  }
}

// Reads parts of `range` of the unit.
template <typename T>
auto reader_of(const SafetensorsFolder& base, const UnitLayout& unit, Range range) {
  return [&base, unit, range](Range part, std::span<T> out) {
    try {
      read_range(base, unit, {range.begin + part.begin, range.begin + part.end}, out);
    } catch (const ModelError& error) {  // To be tried again at the next checkpoint.
      throw CheckpointError(concat("frozen weights cannot be copied: ", error.problem()),
                            "restore the model's folder; it is read at each checkpoint");
    }
  };
}

}  // namespace

NumberSource frozen_numbers(const SafetensorsFolder& base, const UnitLayout& unit, Range range) {
  return {range.size(), reader_of<float>(base, unit, range)};
}

ByteSource passed_bytes(const SafetensorsFolder& base, const UnitLayout& unit, Range range) {
  return {range.size(), reader_of<std::byte>(base, unit, range)};
}

void require_same_frozen(const std::filesystem::path& checkpoint, const ModelFolder& base,
                         const std::vector<UnitLayout>& units) {
  if (std::ranges::all_of(units, &UnitLayout::is_trained)) return;
  const std::filesystem::path folder = checkpoint / kModelFiles.folder;
  const SafetensorsFolder published(folder, kModelFiles.stem, FilePurpose::kCheckpoint);
  for (const UnitLayout& unit : units) {
    if (unit.is_trained()) continue;
    for (const TensorSlot& slot : unit.slots()) {
      const Place* place = published.find(slot.name);
      if (place == nullptr || place->tensor->shape != slot.shape) {
        throw CheckpointError(concat(folder.string(), " does not have the frozen ", slot.name),
                              "use another checkpoint, or restore this one");
      }
      const DType dtype = place->tensor->dtype;
      if (sample(*place, dtype) == sample(*base.weights().find(slot.name), dtype)) continue;
      throw ModelError(concat("the run of ", checkpoint.string(), " froze ", slot.name, ", and ",
                              base.path().string(), " has another one: it is not its base"),
                       "set model.path to the model that the run began with");
    }
  }
}

}  // namespace temper
