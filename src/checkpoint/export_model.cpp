// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/export_model.h"

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include "checkpoint/companion_files.h"
#include "checkpoint/new_folder.h"

namespace temper {
namespace {

using Place = SafetensorsFolder::Place;

constexpr int64_t kPieceBytes = int64_t{4} << 20;  // Arbitrary.

void copy_bytes(const Place& from, const File& to, int64_t offset) {
  std::vector<std::byte> buffer(
      static_cast<size_t>(std::min(kPieceBytes, from.tensor->bytes.size())));
  const Range bytes = from.tensor->bytes;
  for (int64_t at = bytes.begin; at < bytes.end; at += kPieceBytes) {
    const std::span piece(buffer.data(),
                          static_cast<size_t>(std::min(kPieceBytes, bytes.end - at)));
    from.file->read(at, piece);
    to.write(offset + at - bytes.begin, piece);
  }
}

}  // namespace

TensorGroup copy_of(const Place& place) {
  const SafetensorsTensor& tensor = *place.tensor;
  return {{{tensor.name, tensor.dtype, tensor.shape}},
          [place](const File& file, std::span<const int64_t> offsets) {
            copy_bytes(place, file, offsets[0]);
          }};
}

std::vector<TensorGroup> groups_of(const ModelFolder& source,
                                   const std::function<TensorGroup(const Place&)>& group_of) {
  std::vector<TensorGroup> groups;
  for (const UnitLayout& unit : source.units()) {
    for (const TensorSlot& slot : unit.slots()) {
      groups.push_back(group_of(*source.weights().find(slot.name)));
    }
  }
  return groups;
}

void export_model(const ModelFolder& source, const std::filesystem::path& destination,
                  int64_t max_file_bytes) {
  require_new_folder(destination);
  const ModelContent content{read_companion_files(source.path()), groups_of(source, copy_of),
                             max_file_bytes};
  // A folder that cannot be opened is not published.
  write_new_model_folder(destination, content,
                         [](const std::filesystem::path& copy) { ModelFolder{copy}; });
}

}  // namespace temper
