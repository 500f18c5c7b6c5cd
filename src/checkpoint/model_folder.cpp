// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/model_folder.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <functional>
#include <map>
#include <mutex>
#include <set>

#include "checkpoint/companion_files.h"
#include "checkpoint/four_bit/stored_format.h"
#include "checkpoint/four_bit/stored_matrix.h"
#include "checkpoint/hugging_face_config.h"
#include "core/concat.h"
#include "core/error.h"
#include "core/floats.h"
#include "core/hash.h"
#include "core/log.h"
#include "core/message_text.h"
#include "io/file.h"
#include "model/decoder_units.h"
#include "model/family.h"
#include "model/tensor_names.h"

namespace temper {
namespace {

constexpr size_t kMostListed = 40;  // A message of more lines helps nobody.

// What is computed from the configuration, and in older files stored all the same.
constexpr const char* kBuffers[] = {"rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias",
                                    ".attention.bias", ".attention.masked_bias"};

// A tensor that a folder has to have.
struct WantedTensor {
  std::string name;
  std::vector<int64_t> shape;
  std::optional<DType> dtype;  // Nothing: F32, BF16 or F16.
};

bool has_dtype(const SafetensorsTensor& tensor, const WantedTensor& wanted) {
  return wanted.dtype ? tensor.dtype == *wanted.dtype : is_convertible(tensor.dtype);
}

using IsIgnored = std::function<bool(const std::string&)>;  // Of a tensor that no unit has.

std::vector<std::string> differences(const SafetensorsFolder& weights,
                                     const std::vector<WantedTensor>& tensors,
                                     const IsIgnored& is_ignored) {
  std::vector<std::string> found;
  std::set<std::string> names;
  for (const WantedTensor& wanted : tensors) {
    names.insert(wanted.name);
    const auto* place = weights.find(wanted.name);
    if (place == nullptr) {
      found.push_back(concat("missing: ", wanted.name, ' ', to_text(wanted.shape)));
    } else if (place->tensor->shape != wanted.shape) {
      found.push_back(concat("wrong shape: ", wanted.name, " is ", to_text(place->tensor->shape),
                             ", wanted ", to_text(wanted.shape)));
    } else if (!has_dtype(*place->tensor, wanted)) {
      found.push_back(concat("wrong dtype: ", wanted.name, " is ", to_string(place->tensor->dtype),
                             ", wanted ",
                             wanted.dtype ? to_string(*wanted.dtype) : "F32, BF16 or F16"));
    }
  }
  for (const auto& [name, place] : weights.tensors()) {
    if (!names.contains(name) && !is_ignored(name)) {
      found.push_back(
          concat("surplus: ", quote_if_needed(name), ' ', to_text(place.tensor->shape)));
    }
  }
  return found;
}

// The length of a state is its own affair.
int64_t bytes_of_state(const SafetensorsFolder& weights, const std::string& name) {
  const auto* place = weights.find(name);
  return place == nullptr ? 0 : place->tensor->num_elements();
}

// The tensors of the units, those of their matrices in four bits if they are stored so.
std::vector<WantedTensor> tensors_of(const std::vector<UnitLayout>& units,
                                     const SafetensorsFolder& weights,
                                     const std::optional<QuantisationOptions>& quantisation) {
  std::vector<WantedTensor> wanted;
  for (const UnitLayout& unit : units) {
    for (const TensorSlot& slot : unit.slots()) {
      if (!quantisation || !is_four_bit_matrix(slot)) {
        wanted.push_back({slot.name, slot.shape, {}});
        continue;
      }
      const int64_t state_bytes =
          bytes_of_state(weights, four_bit_state_name(slot.name, quantisation->kind));
      for (TensorSpec& spec :
           four_bit_specs(slot.name, slot.num_elements(), *quantisation, state_bytes)) {
        wanted.push_back({std::move(spec.name), std::move(spec.shape), spec.dtype});
      }
    }
  }
  return wanted;
}

void require_wanted(const SafetensorsFolder& weights, const std::vector<WantedTensor>& tensors,
                    const std::string& name, const IsIgnored& is_ignored) {
  const std::vector<std::string> found = differences(weights, tensors, is_ignored);
  if (found.empty()) return;
  std::string list = concat(name, " does not have the tensors of the model:");
  for (size_t i = 0; i < std::min(found.size(), kMostListed); ++i) list += "\n  " + found[i];
  if (found.size() > kMostListed) list += concat("\n  and ", found.size() - kMostListed, " more");
  throw ModelError(list, "check that it is of the model that config.json describes");
}

// Checks what goes with each matrix; returns the dtype that the first was quantised from.
DType check_stored(const SafetensorsFolder& weights, const std::vector<UnitLayout>& units,
                   const QuantisationOptions& quantisation) {
  std::optional<DType> dtype;
  for (const UnitLayout& unit : units) {
    for (const TensorSlot& slot : unit.slots()) {
      if (!is_four_bit_matrix(slot)) continue;
      const StoredMatrix matrix(weights, slot, quantisation);
      if (!dtype) dtype = matrix.dtype();
    }
  }
  return dtype.value_or(DType::kF32);
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

// Whether two tensors have the same numbers, whatever their dtypes; stops at the first difference.
bool has_same_values(const SafetensorsFolder::Place& a, const SafetensorsFolder::Place& b) {
  constexpr int64_t kPiece = int64_t{1} << 20;
  if (a.tensor->shape != b.tensor->shape) return false;
  const int64_t num_elements = a.tensor->num_elements();
  std::vector<float> left(static_cast<size_t>(std::min(kPiece, num_elements))), right(left.size());
  for (int64_t begin = 0; begin < num_elements; begin += kPiece) {
    const Range piece{begin, std::min(begin + kPiece, num_elements)};
    const auto size = static_cast<size_t>(piece.size());
    a.read_floats(piece, std::span(left).first(size));
    b.read_floats(piece, std::span(right).first(size));
    if (!std::equal(left.begin(), left.begin() + piece.size(), right.begin())) return false;
  }
  return true;
}

// Whether the folder has all matrices of the blocks as floating-point numbers.
bool has_dense_matrices(const SafetensorsFolder& weights, const std::vector<UnitLayout>& units) {
  for (const UnitLayout& unit : units) {
    for (const TensorSlot& slot : unit.slots()) {
      if (!is_four_bit_matrix(slot)) continue;
      const auto* place = weights.find(slot.name);
      const bool is_dense = place != nullptr && is_convertible(place->tensor->dtype) &&
                            place->tensor->shape == slot.shape;
      if (!is_dense) return false;
    }
  }
  return true;
}

// Each only once, though a run may open its model's folder several times.
void warn_once(const std::string& warning) {
  static std::mutex mutex;
  static std::set<std::string> told;
  const std::lock_guard lock(mutex);
  if (told.insert(warning).second) log_event(concat("warning=\"", warning, '"'));
}

ModelConfig read_config(const std::string& text, const std::filesystem::path& folder) {
  std::vector<std::string> unknown;
  const std::string name = (folder / "config.json").string();
  ModelConfig config = parse_hugging_face_config(text, name, &unknown);
  if (!unknown.empty()) {
    warn_once(
        concat(name, " has keys that are not known here and are ignored: ", list_names(unknown)));
  }
  return config;
}

}  // namespace

void require_tensors(const SafetensorsFolder& weights, const std::vector<UnitLayout>& units,
                     const std::string& name) {
  require_wanted(weights, tensors_of(units, weights, {}), name,
                 [](const std::string& /*surplus*/) { return false; });
}

ModelFolder::ModelFolder(std::filesystem::path folder, WeightForms accepted,
                         std::optional<bool> has_own_head)
    : path_(std::move(folder)),
      config_text_(read_file(path_ / "config.json", FilePurpose::kModel)),
      config_(read_config(config_text_, path_)),
      weights_(path_) {
  look_at_names();
  look_at_head(has_own_head);
  units_ = decoder_units(config_);
  look_at_others();
  read_corrections();
  unpack_experts();
  if (!has_stale_quantisation_) look_at_quantisation();
  if (quantisation_ && accepted == WeightForms::kDense) {
    throw ModelError(concat(path_.string(), " has its weights in four bits (",
                            describe(*quantisation_), "), which only method qlora trains on"),
                     "set method to qlora, or use the model that they were quantised from");
  }
  require_wanted(weights_, tensors_of(units_, weights_, quantisation_), path_.string(),
                 [this](const std::string& name) { return is_ignored(name); });
  const std::filesystem::path generation = path_ / "generation_config.json";
  if (is_there(generation)) {
    take_end_tokens(read_file(generation, FilePurpose::kModel), generation.string(), config_);
  }
  stored_dtype_ = quantisation_ ? check_stored(weights_, units_, *quantisation_)
                                : most_common_dtype(weights_, units_);
}

// Files of some families lack what transformers puts before each name, or have its own names.
void ModelFolder::look_at_names() {
  const auto has = [&](const std::string& base) {
    ModelConfig config = config_;
    config.file_base = base;
    return weights_.find(embedding_weight(config)) != nullptr;
  };
  if (has(config_.file_base)) return;
  if (has(config_.module_base)) {
    config_.file_base = config_.module_base;
    config_.file_head = head_name(config_, NameKind::kModule);
  } else if (has("")) {
    config_.file_base.clear();
  }
}

// Whether no unit has a tensor of that name, though it is of the model.
bool ModelFolder::is_other(const std::string& name) const {
  if (config_.has_other_parts) {
    return !name.starts_with(config_.file_base) && name != head_weight(config_);
  }
  const Family::Experts& family = family_of(config_.model_type).experts;
  if (!family.names.correction.empty() && name.ends_with(family.names.correction)) return true;
  if (!family.begins_dense) return false;
  const std::optional<int64_t> layer = layer_of(name, blocks_prefix(config_));
  return layer && *layer >= config_.num_layers;
}

void ModelFolder::look_at_others() {
  for (const auto& [name, place] : weights_.tensors()) {
    if (is_other(name)) others_.push_back(place);
  }
  std::ranges::stable_sort(others_, std::greater(),
                           [](const auto& place) { return place.tensor->dtype; });
}

// They are numbers of the configuration to whoever computes with them: a few floats a layer.
void ModelFolder::read_corrections() {
  const std::string_view name = family_of(config_.model_type).experts.names.correction;
  if (name.empty()) return;
  for (int64_t layer = 0; layer < config_.num_layers; ++layer) {
    std::vector<float>& own = config_.experts.corrections.emplace_back();
    if (!config_.has_experts(layer)) continue;
    const std::string full = concat(block_name(config_, layer), '.', name);
    const auto* place = weights_.find(full);
    const std::vector<int64_t> shape = {config_.experts.count};
    if (place == nullptr || place->tensor->shape != shape) {
      throw ModelError(concat(path_.string(), " does not have ", full, ' ', to_text(shape),
                              ", by which tokens choose their experts"),
                       "restore the folder, or use the model as it was published");
    }
    own.resize(static_cast<size_t>(shape[0]));
    place->read_floats({0, shape[0]}, own);
    if (all_finite(own)) continue;
    throw ModelError(concat(place->file->path().string(), ": the tensor ", full,
                            " has numbers that are not finite"),
                     "use a model whose weights are whole");
  }
}

// From then on they are bfloat16 to all that read them.
void ModelFolder::unpack_experts() {
  if (!names_mxfp4(config_text_)) return;
  bool is_packed = false;
  for (const UnitLayout& unit : units_) {
    for (const TensorSlot& slot : unit.slots()) {
      const bool may_be = slot.is_matrix() && weights_.find(slot.name) == nullptr;
      if (may_be && weights_.unpack(slot.name)) is_packed = true;
    }
  }
  if (!is_packed) return;
  has_stale_quantisation_ = true;
  warn_once(concat(path_.string(),
                   " has its experts in MXFP4: they are read as the bfloat16 numbers that they "
                   "stand for, in four times the room, and so is what is saved of them"));
}

bool ModelFolder::is_ignored(const std::string& name) const {
  const bool is_buffer =
      std::ranges::any_of(kBuffers, [&](const char* buffer) { return name.ends_with(buffer); });
  return is_buffer || (config_.has_tied_head && name == head_weight(config_)) ||
         std::ranges::any_of(others_,
                             [&](const auto& place) { return place.tensor->name == name; });
}

std::optional<UnitLayout> ModelFolder::passed_unit() const {
  if (others_.empty()) return std::nullopt;
  std::vector<TensorSlot> slots;
  for (const SafetensorsFolder::Place& place : others_) {
    slots.push_back({.name = place.tensor->name, .shape = {place.tensor->bytes.size()}});
  }
  return UnitLayout("passed_on", std::move(slots), UnitLayout::Use::kPassedOn);
}

void ModelFolder::look_at_head(std::optional<bool> has_own_head) {
  if (!config_.has_tied_head) return;
  const auto *head = weights_.find(head_weight(config_)),
             *embedding = weights_.find(embedding_weight(config_));
  if (!has_own_head) {
    has_own_head = head != nullptr && embedding != nullptr && !has_same_values(*head, *embedding);
  }
  if (!*has_own_head) return;
  has_own_head_ = true;
  config_.has_tied_head = false;
  warn_once(concat("config.json in ", path_.string(),
                   " says that the head is tied to the embedding, but the weights have a head of "
                   "other values: it is not tied"));
}

void ModelFolder::look_at_quantisation() {
  has_stale_quantisation_ =
      names_quantisation(config_text_) && has_dense_matrices(weights_, units_);
  if (!has_stale_quantisation_) {
    quantisation_ = parse_quantization_config(config_text_, (path_ / "config.json").string());
    return;
  }
  warn_once(concat("config.json in ", path_.string(),
                   " has a quantization_config, but the weights are dense: it is ignored"));
}

std::vector<TextFile> ModelFolder::companions() const {
  std::vector<TextFile> files = read_companion_files(path_);
  for (TextFile& file : files) {
    if (file.path != "config.json") continue;
    if (has_own_head_) file.text = with_flag(file.text, "tie_word_embeddings", false);
    if (has_stale_quantisation_) file.text = without_member(file.text, "quantization_config");
  }
  return files;
}

bool ModelFolder::is_four_bit(const TensorSlot& slot) const {
  return quantisation_ && is_four_bit_matrix(slot);
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

at::Tensor read_tensor(const SafetensorsFolder::Place& place) {
  at::Tensor values = at::empty(place.tensor->shape, at::kFloat);
  const auto count = static_cast<size_t>(values.numel());
  place.read_floats({0, values.numel()}, {values.mutable_data_ptr<float>(), count});
  return values;
}

}  // namespace temper
