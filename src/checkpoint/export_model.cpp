// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/export_model.h"

#include <span>
#include <vector>

#include "checkpoint/companion_files.h"
#include "checkpoint/new_folder.h"

namespace temper {
namespace {

using Place = SafetensorsFolder::Place;

// With what belongs to its codes, if it is in four bits.
TensorGroup copy_whole(const ModelFolder& source, const Place& place) {
  const std::string prefix = place.tensor->name + ".";
  std::vector<Place> places = {place};
  const auto& tensors = source.weights().tensors();
  for (auto it = tensors.lower_bound(prefix); it != tensors.end(); ++it) {
    if (!source.quantisation() || !it->first.starts_with(prefix)) break;
    places.push_back(it->second);
  }
  TensorGroup group;
  for (const Place& one : places) {
    group.specs.push_back({one.tensor->name, one.tensor->dtype, one.tensor->shape});
  }
  group.write = [places](const File& file, std::span<const int64_t> offsets) {
    for (size_t i = 0; i < places.size(); ++i) {
      places[i].file->copy(places[i].tensor->bytes, file, offsets[i]);
    }
  };
  return group;
}

}  // namespace

TensorGroup copy_of(const Place& place) {
  const SafetensorsTensor& tensor = *place.tensor;
  return {{{tensor.name, tensor.dtype, tensor.shape}},
          [place](const File& file, std::span<const int64_t> offsets) {
            place.file->copy(place.tensor->bytes, file, offsets[0]);
          }};
}

std::vector<TensorGroup> groups_of(const ModelFolder& source,
                                   const std::function<TensorGroup(const TensorSlot&)>& group_of) {
  std::vector<TensorGroup> groups;
  for (const UnitLayout& unit : source.units()) {
    for (const TensorSlot& slot : unit.slots()) {
      groups.push_back(group_of(slot));
    }
  }
  return groups;
}

void export_model(const ModelFolder& source, const std::filesystem::path& destination,
                  int64_t max_file_bytes) {
  require_new_folder(destination);
  ModelContent content{.texts = source.companions(),
                       .groups = groups_of(source,
                                           [&](const TensorSlot& slot) {
                                             return copy_whole(source,
                                                               *source.weights().find(slot.name));
                                           }),
                       .max_file_bytes = max_file_bytes};
  add_model_card(source.path(), content.texts);
  // A folder that cannot be opened is not published.
  write_new_model_folder(destination, content, [](const std::filesystem::path& copy) {
    ModelFolder{copy, WeightForms::kAny};
  });
}

}  // namespace temper
