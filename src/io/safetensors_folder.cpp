// SPDX-License-Identifier: Apache-2.0
#include "io/safetensors_folder.h"

#include <array>
#include <cstdio>
#include <set>

#include "core/concat.h"
#include "core/log.h"
#include "core/message_text.h"
#include "io/json.h"

namespace temper {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void refuse(const fs::path& index, FilePurpose purpose, const std::string& problem) {
  throw_file_error(purpose, concat(index.string(), ' ', problem),
                   "fetch or export the model folder again");
}

// What the index itself says may not lead out of the folder. Links in it are followed like any
// file.
fs::path file_inside(const fs::path& index, const std::string& name, FilePurpose purpose) {
  const fs::path relative(name);
  bool climbs = relative.empty() || relative.is_absolute();
  for (const fs::path& part : relative) climbs = climbs || part == "..";
  if (climbs) {
    refuse(index, purpose, concat("names the file ", quote(name), ", outside its folder"));
  }
  const fs::path path = index.parent_path() / relative;
  std::error_code error;
  if (!fs::exists(path, error)) {
    refuse(index, purpose,
           concat("names the file ", quote(name), ", which is not there",
                  error ? concat(" (", error.message(), ')') : ""));
  }
  return path;
}

}  // namespace

SafetensorsFolder::SafetensorsFolder(const fs::path& folder, const std::string& stem,
                                     FilePurpose purpose) {
  const fs::path single = folder / (stem + ".safetensors");
  const fs::path index = folder / (stem + ".safetensors.index.json");
  if (fs::exists(single)) {
    if (fs::exists(index)) {
      log_event(concat("warning=\"", index.string(), " is not looked at, since ",
                       single.filename().string(), " lies beside it\""));
    }
    add_file(single, purpose);
  } else if (fs::exists(index)) {
    open_index(index, purpose);
  } else {
    throw_file_error(purpose,
                     concat(folder.string(), " has neither ", single.filename().string(), " nor ",
                            index.filename().string()),
                     "check the path; other formats than safetensors are not read");
  }
}

void SafetensorsFolder::open_index(const fs::path& path, FilePurpose purpose) {
  const Json json = read_json(path, purpose);
  if (!json.is_object() || !json.contains("weight_map") || !json["weight_map"].is_object()) {
    refuse(path, purpose, "has no object weight_map");
  }
  const Json& weight_map = json["weight_map"];
  std::set<std::string> names;
  for (const auto& [tensor, file] : weight_map.items()) {
    if (!file.is_string())
      refuse(path, purpose, concat("gives no file for tensor ", quote(tensor)));
    names.insert(file.get<std::string>());
  }
  for (const std::string& name : names) {
    add_file(file_inside(path, name, purpose), purpose);
    for (const SafetensorsTensor& tensor : files_.back()->tensors()) {
      const auto said = weight_map.find(tensor.name);
      if (said == weight_map.end() || *said != name) {
        refuse(path, purpose,
               concat("places tensor ", quote(tensor.name), " in ",
                      said == weight_map.end() ? "no file" : quote(said->get<std::string>()),
                      ", but it is in ", quote(name)));
      }
    }
  }
  for (const auto& [tensor, file] : weight_map.items()) {
    if (find(tensor) == nullptr) {
      refuse(path, purpose,
             concat("places tensor ", quote(tensor), " in ", quote(file.get<std::string>()),
                    ", which does not have it"));
    }
  }
}

void SafetensorsFolder::add_file(fs::path path, FilePurpose purpose) {
  files_.push_back(std::make_unique<SafetensorsFile>(std::move(path), purpose));
  const SafetensorsFile& file = *files_.back();
  for (const SafetensorsTensor& tensor : file.tensors()) {
    tensors_[tensor.name] = {&file, &tensor, {}};
  }
}

bool SafetensorsFolder::unpack(const std::string& name) {
  const auto codes = tensors_.find(name + "_blocks"), scales = tensors_.find(name + "_scales");
  if (codes == tensors_.end() || scales == tensors_.end()) return false;
  const SafetensorsFile* file = codes->second.file;
  const auto packed = std::make_shared<const Mxfp4Matrices>(
      Mxfp4Matrices::Part{file, codes->second.tensor},
      Mxfp4Matrices::Part{scales->second.file, scales->second.tensor});
  unpacked_.push_back(std::make_unique<SafetensorsTensor>(
      SafetensorsTensor{name, DType::kBF16, packed->shape(), codes->second.tensor->bytes}));
  tensors_.erase(codes);
  tensors_.erase(scales);
  tensors_[name] = {file, unpacked_.back().get(), packed};
  return true;
}

const SafetensorsFolder::Place* SafetensorsFolder::find(const std::string& name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

std::string safetensors_file_name(const std::string& stem, int64_t index, int64_t num_files) {
  if (num_files == 1) return stem + ".safetensors";
  std::array<char, 64> suffix{};
  std::snprintf(suffix.data(), suffix.size(), "-%05lld-of-%05lld.safetensors",
                static_cast<long long>(index + 1), static_cast<long long>(num_files));
  return stem + suffix.data();
}

std::string safetensors_index(const std::map<std::string, std::string>& file_of_tensor,
                              int64_t total_bytes) {
  const Json index{{"metadata", {{"total_size", total_bytes}}}, {"weight_map", file_of_tensor}};
  return index.dump(2) + '\n';
}

}  // namespace temper
