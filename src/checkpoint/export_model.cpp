// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/export_model.h"

#include <algorithm>
#include <map>
#include <span>
#include <string>
#include <system_error>
#include <tuple>
#include <vector>

#include "checkpoint/companion_files.h"
#include "checkpoint/file_part.h"
#include "checkpoint/retention.h"
#include "core/concat.h"
#include "core/error.h"
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

void write_weights(std::vector<Place> places, const fs::path& path) {
  sort_as_reference(places);
  std::vector<TensorSpec> specs;
  for (const Place& place : places) {
    specs.push_back({place.tensor->name, place.tensor->dtype, place.tensor->shape});
  }
  const SafetensorsLayout layout(std::move(specs));
  File file = File::open_shared(path, FilePurpose::kCheckpoint);
  file.write(0, std::as_bytes(std::span(layout.header())));
  for (size_t i = 0; i < places.size(); ++i) {
    copy_bytes(places[i], file, layout.tensors()[i].bytes.begin);
  }
  file.sync();
  file.close();
}

void write_text(const TextFile& text, const fs::path& folder) {
  write_parts({folder / text.path, {{0, text.text, {}, DType::kU8}}});
}

void write_folder(const ModelFolder& source, const fs::path& folder, int64_t max_file_bytes) {
  for (const TextFile& text : read_companion_files(source.path())) write_text(text, folder);
  const std::vector<std::vector<Place>> files = split(source, max_file_bytes);
  std::map<std::string, std::string> file_of_tensor;
  int64_t total_bytes = 0;
  for (size_t i = 0; i < files.size(); ++i) {
    const std::string name =
        safetensors_file_name(kStem, static_cast<int64_t>(i), std::ssize(files));
    write_weights(files[i], folder / name);
    for (const Place& place : files[i]) {
      file_of_tensor[place.tensor->name] = name;
      total_bytes += place.tensor->bytes.size();
    }
  }
  if (files.size() == 1) return;
  write_text({"model.safetensors.index.json", safetensors_index(file_of_tensor, total_bytes)},
             folder);
}

/// A folder under a temporary name, removed unless it was published.
class NewFolder {
 public:
  explicit NewFolder(fs::path destination)
      : destination_(std::move(destination)), temporary_(destination_.string() + ".tmp") {
    require_new_folder(destination_);
    std::error_code error;
    fs::remove_all(temporary_, error);
    fs::create_directories(temporary_, error);
    if (error) {
      throw CheckpointError(
          concat("cannot make the folder ", temporary_.string(), ": ", error.message()),
          "check the path and its rights");
    }
  }
  NewFolder(const NewFolder&) = delete;
  NewFolder& operator=(const NewFolder&) = delete;
  ~NewFolder() {
    std::error_code ignored;
    fs::remove_all(temporary_, ignored);
  }

  const fs::path& path() const { return temporary_; }

  void publish() const {
    sync_folder(temporary_, FilePurpose::kCheckpoint);
    rename_folder(temporary_, destination_);
    sync_folder(fs::absolute(destination_).parent_path(), FilePurpose::kCheckpoint);
  }

 private:
  fs::path destination_;
  fs::path temporary_;
};

}  // namespace

void require_new_folder(const fs::path& destination) {
  if (!destination.empty() && !fs::exists(fs::symlink_status(destination))) return;
  throw ConfigError(concat("'", destination.string(), "' exists already"),
                    "name a folder that does not exist yet");
}

void export_model(const ModelFolder& source, const fs::path& destination, int64_t max_file_bytes) {
  // "a/b/" names the folder that "a/b" names.
  const NewFolder folder(destination.has_filename() ? destination : destination.parent_path());
  write_folder(source, folder.path(), max_file_bytes);
  const ModelFolder copy(folder.path());  // Throws if what was written cannot be opened.
  folder.publish();
}

}  // namespace temper
