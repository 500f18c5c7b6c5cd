// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/new_model_folder.h"

#include <algorithm>
#include <map>
#include <string>
#include <tuple>

#include "checkpoint/new_folder.h"
#include "core/progress_bar.h"
#include "io/safetensors_folder.h"

namespace temper {
namespace fs = std::filesystem;
namespace {

using Groups = std::span<const TensorGroup>;

int64_t data_bytes(const TensorGroup& group) { return SafetensorsLayout(group.specs).data_bytes(); }

int64_t bytes_of(Groups groups) {
  int64_t bytes = 0;
  for (const TensorGroup& group : groups) bytes += data_bytes(group);
  return bytes;
}

// One part per file: filled in the model's order, a group that is too big alone in its file.
std::vector<Groups> split(Groups groups, int64_t max_file_bytes) {
  std::vector<Groups> files;
  size_t begin = 0;
  int64_t bytes = 0;
  for (size_t i = 0; i < groups.size(); ++i) {
    const int64_t group_bytes = data_bytes(groups[i]);
    if (i > begin && bytes + group_bytes > max_file_bytes) {
      files.push_back(groups.subspan(begin, i - begin));
      begin = i;
      bytes = 0;
    }
    bytes += group_bytes;
  }
  files.push_back(groups.subspan(begin));
  return files;
}

// In the order of safetensors' own writer: widest dtype first, then by name.
std::vector<TensorSpec> as_reference_sorts(Groups groups) {
  std::vector<TensorSpec> specs;
  for (const TensorGroup& group : groups) {
    specs.insert(specs.end(), group.specs.begin(), group.specs.end());
  }
  std::ranges::sort(specs, [](const TensorSpec& a, const TensorSpec& b) {
    return std::tie(b.dtype, a.name) < std::tie(a.dtype, b.name);
  });
  return specs;
}

// Returns the bytes of all tensors.
int64_t write_weights(Groups groups, const fs::path& path, ProgressBar& bar) {
  const SafetensorsLayout layout(as_reference_sorts(groups));
  std::map<std::string, int64_t> begin_of;
  for (const SafetensorsTensor& tensor : layout.tensors()) {
    begin_of[tensor.name] = tensor.bytes.begin;
  }
  File file = File::open_shared(path, FilePurpose::kCheckpoint);
  file.write(0, std::as_bytes(std::span(layout.header())));
  for (const TensorGroup& group : groups) {
    std::vector<int64_t> offsets;
    for (const TensorSpec& spec : group.specs) offsets.push_back(begin_of.at(spec.name));
    group.write(file, offsets);
    bar.add(data_bytes(group));
  }
  file.sync();
  file.close();
  return layout.data_bytes();
}

void write_content(const ModelContent& content, const NewFolder& folder) {
  for (const TextFile& text : content.texts) folder.write(text);
  const std::vector<Groups> files = split(content.groups, content.max_file_bytes);
  std::map<std::string, std::string> file_of_tensor;
  int64_t total_bytes = 0;
  ProgressBar bar("writing", bytes_of(content.groups), ProgressBar::Unit::kBytes);
  for (size_t i = 0; i < files.size(); ++i) {
    const std::string name =
        safetensors_file_name(content.stem, static_cast<int64_t>(i), std::ssize(files));
    total_bytes += write_weights(files[i], folder.path() / name, bar);
    for (const TensorGroup& group : files[i]) {
      for (const TensorSpec& spec : group.specs) file_of_tensor[spec.name] = name;
    }
  }
  if (files.size() == 1) return;
  folder.write(
      {content.stem + ".safetensors.index.json", safetensors_index(file_of_tensor, total_bytes)});
}

}  // namespace

void write_new_model_folder(const fs::path& destination, const ModelContent& content,
                            const std::function<void(const fs::path&)>& check) {
  const NewFolder folder(destination);
  write_content(content, folder);
  check(folder.path());
  folder.publish();
}

}  // namespace temper
