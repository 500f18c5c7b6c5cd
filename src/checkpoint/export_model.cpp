// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/export_model.h"

#include <algorithm>
#include <map>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "checkpoint/companion_files.h"
#include "checkpoint/new_folder.h"
#include "io/file.h"
#include "io/safetensors_folder.h"
#include "io/safetensors_layout.h"

namespace temper {
namespace fs = std::filesystem;
namespace {

using Place = SafetensorsFolder::Place;

constexpr int64_t kPieceBytes = int64_t{4} << 20;  // Arbitrary.
constexpr const char* kStem = "model";

// One list per file: filled in the model's order, a tensor that is too big alone in its file.
std::vector<std::vector<Place>> split(const ModelFolder& source, int64_t max_file_bytes) {
  std::vector<std::vector<Place>> files(1);
  int64_t bytes = 0;
  for (const UnitLayout& unit : source.units()) {
    for (const TensorSlot& slot : unit.slots()) {
      const Place place = *source.weights().find(slot.name);
      const int64_t tensor_bytes = place.tensor->bytes.size();
      if (!files.back().empty() && bytes + tensor_bytes > max_file_bytes) {
        files.emplace_back();
        bytes = 0;
      }
      files.back().push_back(place);
      bytes += tensor_bytes;
    }
  }
  return files;
}

// The order of safetensors' own writer: widest dtype first, then by name.
void sort_as_reference(std::vector<Place>& places) {
  std::ranges::sort(places, [](const Place& a, const Place& b) {
    return std::tie(b.tensor->dtype, a.tensor->name) < std::tie(a.tensor->dtype, b.tensor->name);
  });
}

void write_weights(std::vector<Place> places, const fs::path& path, const WriteTensor& write) {
  sort_as_reference(places);
  std::vector<TensorSpec> specs;
  for (const Place& place : places) {
    specs.push_back({place.tensor->name, place.tensor->dtype, place.tensor->shape});
  }
  const SafetensorsLayout layout(std::move(specs));
  File file = File::open_shared(path, FilePurpose::kCheckpoint);
  file.write(0, std::as_bytes(std::span(layout.header())));
  for (size_t i = 0; i < places.size(); ++i) {
    write(places[i], file, layout.tensors()[i].bytes.begin);
  }
  file.sync();
  file.close();
}

void write_folder(const ModelFolder& source, const NewFolder& folder,
                  const ExportOptions& options) {
  for (const TextFile& text : read_companion_files(source.path())) folder.write(text);
  for (const TextFile& text : options.texts) folder.write(text);
  const std::vector<std::vector<Place>> files = split(source, options.max_file_bytes);
  std::map<std::string, std::string> file_of_tensor;
  int64_t total_bytes = 0;
  for (size_t i = 0; i < files.size(); ++i) {
    const std::string name =
        safetensors_file_name(kStem, static_cast<int64_t>(i), std::ssize(files));
    write_weights(files[i], folder.path() / name, options.write);
    for (const Place& place : files[i]) {
      file_of_tensor[place.tensor->name] = name;
      total_bytes += place.tensor->bytes.size();
    }
  }
  if (files.size() == 1) return;
  folder.write({"model.safetensors.index.json", safetensors_index(file_of_tensor, total_bytes)});
}

}  // namespace

void copy_tensor(const Place& from, const File& to, int64_t offset) {
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

void export_model(const ModelFolder& source, const fs::path& destination,
                  const ExportOptions& options) {
  const NewFolder folder(destination);
  write_folder(source, folder, options);
  const ModelFolder copy(folder.path());  // Throws if what was written cannot be opened.
  folder.publish();
}

}  // namespace temper
