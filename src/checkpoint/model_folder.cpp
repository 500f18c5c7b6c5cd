// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/model_folder.h"

#include <algorithm>
#include <map>
#include <set>
#include <system_error>

#include "checkpoint/hugging_face_config.h"
#include "core/concat.h"
#include "core/error.h"
#include "core/hash.h"
#include "io/file.h"
#include "model/decoder_units.h"

namespace temper {
namespace {

constexpr size_t kMostListed = 40;  // A message of more lines helps nobody.
constexpr const char* kHead = "lm_head.weight";

std::string to_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (const int64_t size : shape) text += concat(text.size() > 1 ? ", " : "", size);
  return text + "]";
}

bool is_ignored(const std::string& name, const std::set<std::string>& wanted) {
  return name.ends_with("rotary_emb.inv_freq") || (name == kHead && !wanted.contains(kHead));
}

std::vector<std::string> differences(const SafetensorsFolder& weights,
                                     const std::vector<UnitLayout>& units) {
  std::vector<std::string> found;
  std::set<std::string> wanted;
  for (const UnitLayout& unit : units) {
    for (const TensorSlot& slot : unit.slots()) {
      wanted.insert(slot.name);
      const auto* place = weights.find(slot.name);
      if (place == nullptr) {
        found.push_back(concat("missing: ", slot.name, ' ', to_text(slot.shape)));
      } else if (place->tensor->shape != slot.shape) {
        found.push_back(concat("wrong shape: ", slot.name, " is ", to_text(place->tensor->shape),
                               ", wanted ", to_text(slot.shape)));
      } else if (!is_convertible(place->tensor->dtype)) {
        found.push_back(concat("wrong dtype: ", slot.name, " is ", to_string(place->tensor->dtype),
                               ", wanted F32, BF16 or F16"));
      }
    }
  }
  for (const auto& [name, place] : weights.tensors()) {
    if (!wanted.contains(name) && !is_ignored(name, wanted)) {
      found.push_back(concat("surplus: ", name, ' ', to_text(place.tensor->shape)));
    }
  }
  return found;
}

DType most_common_dtype(const SafetensorsFolder& weights, const std::vector<UnitLayout>& units) {
  std::map<DType, int64_t> elements;
  for (const UnitLayout& unit : units) {
    for (const TensorSlot& slot : unit.slots()) {
      elements[weights.find(slot.name)->tensor->dtype] += slot.num_elements();
    }
  }
  return std::ranges::max_element(elements, {}, [](const auto& entry) { return entry.second; })
      ->first;
}

}  // namespace

void require_tensors(const SafetensorsFolder& weights, const std::vector<UnitLayout>& units,
                     const std::string& name) {
  const std::vector<std::string> found = differences(weights, units);
  if (found.empty()) return;
  std::string list = concat(name, " does not have the tensors of the model:");
  for (size_t i = 0; i < std::min(found.size(), kMostListed); ++i) list += "\n  " + found[i];
  if (found.size() > kMostListed) list += concat("\n  and ", found.size() - kMostListed, " more");
  throw ModelError(list, "check that it is of the model that config.json describes");
}

ModelFolder::ModelFolder(std::filesystem::path folder)
    : path_(std::move(folder)),
      config_text_(read_file(path_ / "config.json", FilePurpose::kModel)),
      config_(parse_hugging_face_config(config_text_, (path_ / "config.json").string())),
      units_(decoder_units(config_)),
      weights_(path_) {
  require_tensors(weights_, units_, path_.string());
  const std::filesystem::path generation = path_ / "generation_config.json";
  std::error_code ignored;
  if (std::filesystem::exists(generation, ignored)) {
    take_end_tokens(read_file(generation, FilePurpose::kModel), generation.string(), config_);
  }
  stored_dtype_ = most_common_dtype(weights_, units_);
}

std::string tokenizer_sha256_of(const std::filesystem::path& folder) {
  return to_hex(sha256(read_file(folder / "tokenizer.json", FilePurpose::kModel)));
}

std::string ModelFolder::fingerprint() const {
  Sha256 hash;
  hash.update(config_text_);
  for (const auto& [name, place] : weights_.tensors()) {
    const SafetensorsTensor& tensor = *place.tensor;
    hash.update(concat('\n', name, ' ', to_string(tensor.dtype), ' ', to_text(tensor.shape), ' ',
                       place.file->path().filename().string(), ' ', tensor.bytes.begin));
  }
  return to_hex(hash.finish());
}

}  // namespace temper
