// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/export_model.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/companion_files.h"
#include "checkpoint/four_bit/stored_format.h"
#include "checkpoint/new_folder.h"
#include "core/concat.h"
#include "core/error.h"
#include "core/floats.h"
#include "io/dtype.h"
#include "io/json.h"
#include "model/family.h"
#include "model/quantised/dynamic_map.h"
#include "model/quantised/quantise.h"
#include "model/quantised/quantised_absmax.h"

namespace temper {
namespace {

using Place = SafetensorsFolder::Place;

constexpr int64_t kPieceElements = int64_t{1} << 20;  // Arbitrary; whole blocks of any size.

// What is stored in MXFP4, as what it stands for.
void write_unpacked(const Place& place, const File& file, int64_t offset) {
  const DType dtype = place.tensor->dtype;
  const int64_t size = place.tensor->num_elements(), element_bytes = num_bits(dtype) / 8;
  std::vector<float> numbers;
  std::vector<std::byte> bytes;
  for (int64_t begin = 0; begin < size; begin += kPieceElements) {
    const Range piece{begin, std::min(begin + kPieceElements, size)};
    numbers.resize(static_cast<size_t>(piece.size()));
    bytes.resize(numbers.size() * static_cast<size_t>(element_bytes));
    place.read_floats(piece, numbers);
    from_floats(dtype, numbers, bytes);
    file.write(offset + begin * element_bytes, bytes);
  }
}

// With what belongs to its codes, if it is in four bits.
TensorGroup copy_whole(const ModelFolder& source, const Place& place) {
  if (place.packed) return copy_of(place);
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

constexpr int64_t kOffsetCharacters = 24;  // No double has more in its shortest form.

/// One matrix, and the tensors that bitsandbytes stores for it.
class QuantisedMatrix {
 public:
  QuantisedMatrix(const Place& place, const QuantisedExportOptions& options)
      : place_(place),
        options_(options),
        size_(place.tensor->num_elements()),
        num_blocks_(options.format.num_blocks(size_)) {}

  std::vector<TensorSpec> specs() const;
  void write(const File& file, std::span<const int64_t> offsets) const;

 private:
  std::vector<float> write_codes(const File& file, int64_t offset) const;
  std::string state(double offset) const;

  Place place_;
  QuantisedExportOptions options_;
  int64_t size_;
  int64_t num_blocks_;
};

std::vector<TensorSpec> QuantisedMatrix::specs() const {
  return four_bit_specs(place_.tensor->name, size_,
                        {options_.format.kind, options_.quantises_absmax}, std::ssize(state(0.0)));
}

// In the order of `specs`.
void QuantisedMatrix::write(const File& file, std::span<const int64_t> offsets) const {
  const auto put = [&](size_t index, const auto& numbers) {
    file.write(offsets[index], std::as_bytes(std::span(numbers)));
  };
  const std::vector<float> absmax = write_codes(file, offsets[0]);
  put(1, four_bit_values(options_.format.kind));
  if (!options_.quantises_absmax) {
    put(2, state(0.0));
    put(3, absmax);
    return;
  }
  const QuantisedAbsmax quantised = quantise_absmax(absmax);
  put(2, state(quantised.offset));
  put(3, quantised.codes);
  put(4, quantised.absmax);
  put(5, dynamic_map(MapSign::kSigned));
}

// Returns the scales of the blocks.
std::vector<float> QuantisedMatrix::write_codes(const File& file, int64_t offset) const {
  const FourBitFormat& format = options_.format;
  const at::Tensor floats = at::empty({std::min(size_, kPieceElements)}, at::kFloat);
  std::vector<float> absmax(static_cast<size_t>(num_blocks_));
  for (int64_t begin = 0; begin < size_; begin += kPieceElements) {
    const int64_t count = std::min(kPieceElements, size_ - begin);
    const at::Tensor piece = floats.narrow(0, 0, count);
    place_.read_floats({begin, begin + count},
                       {piece.mutable_data_ptr<float>(), static_cast<size_t>(count)});
    std::vector<uint8_t> codes(static_cast<size_t>(FourBitFormat::num_bytes(count)));
    quantise(piece, format, codes,
             std::span(absmax).subspan(static_cast<size_t>(begin / format.block_size),
                                       static_cast<size_t>(format.num_blocks(count))));
    file.write(offset + begin / 2, std::as_bytes(std::span(codes)));
  }
  if (!all_finite(absmax)) {
    throw ModelError(concat(place_.tensor->name, " has a number that is not finite"),
                     "export a checkpoint from before the training diverged");
  }
  return absmax;
}

// The JSON of bitsandbytes' QuantState, padded with spaces: its length may not depend on the
// numbers, since the file's header is written before them.
std::string QuantisedMatrix::state(double offset) const {
  Json state = {{"quant_type", name_of(options_.format.kind)},
                {"blocksize", options_.format.block_size},
                {"dtype", torch_name(place_.tensor->dtype)},
                {"shape", place_.tensor->shape}};
  if (options_.quantises_absmax) {
    state["nested_blocksize"] = QuantisedAbsmax::kBlockSize;
    state["nested_dtype"] = "float32";
    state["nested_offset"] = 0;
  }
  const size_t length = state.dump().size() + kOffsetCharacters;
  if (options_.quantises_absmax) state["nested_offset"] = offset;
  std::string text = state.dump();
  text.resize(length, ' ');
  return text;
}

// Every key, since some readers have other defaults for those that are missing.
std::string quantization_config(const QuantisedExportOptions& options, DType compute_dtype) {
  return Json{{"quant_method", "bitsandbytes"},
              {"load_in_4bit", true},
              {"load_in_8bit", false},
              {"_load_in_4bit", true},
              {"_load_in_8bit", false},
              {"bnb_4bit_quant_type", name_of(options.format.kind)},
              {"bnb_4bit_use_double_quant", options.quantises_absmax},
              {"bnb_4bit_compute_dtype", torch_name(compute_dtype)},
              {"bnb_4bit_quant_storage", "uint8"},
              {"llm_int8_threshold", 6.0},
              {"llm_int8_skip_modules", nullptr},
              {"llm_int8_enable_fp32_cpu_offload", false},
              {"llm_int8_has_fp16_weight", false}}
      .dump();
}

TensorGroup quantised(const Place& place, const QuantisedExportOptions& options) {
  const QuantisedMatrix matrix(place, options);
  return {matrix.specs(), [matrix](const File& file, std::span<const int64_t> offsets) {
            matrix.write(file, offsets);
          }};
}

}  // namespace

void write_rounded(const at::Tensor& sum, const TensorSpec& spec, const File& to, int64_t offset) {
  const auto count = static_cast<size_t>(sum.numel());
  std::vector<std::byte> bytes(count * static_cast<size_t>(num_bits(spec.dtype)) / 8);
  from_floats(spec.dtype, {sum.const_data_ptr<float>(), count}, bytes);
  to_floats(spec.dtype, bytes, {sum.mutable_data_ptr<float>(), count});
  if (!at::isfinite(sum).all().item<bool>()) {
    throw ModelError(concat("merging makes ", spec.name, " not finite in ", to_string(spec.dtype)),
                     "use an adapter of a run that converged, or a base in a wider dtype");
  }
  to.write(offset, bytes);
}

TensorGroup copy_of(const Place& place) {
  const SafetensorsTensor& tensor = *place.tensor;
  return {{{tensor.name, tensor.dtype, tensor.shape}},
          [place](const File& file, std::span<const int64_t> offsets) {
            if (place.packed) return write_unpacked(place, file, offsets[0]);
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

void add_others(const ModelFolder& source, std::vector<TensorGroup>& groups) {
  for (const Place& place : source.others()) groups.push_back(copy_of(place));
}

// What bitsandbytes would make four-bit modules of is more than the matrices of the blocks there.
void require_quantisable(const ModelFolder& source) {
  const Family& family = family_of(source.config().model_type);
  const ExpertNames& experts = family.experts.names;
  const std::string_view problem =
      family.is_transposed          ? "its matrices are stored transposed"
      : !experts.all_down.empty()   ? "one tensor has the matrices of all experts"
      : !experts.correction.empty() ? "it has tensors that correct its routers"
      : !source.others().empty()    ? "it has other parts beside the one that reads text"
                                    : "";
  if (problem.empty()) return;
  throw ModelError(concat(source.path().string(), " cannot be exported in four bits: ", problem),
                   "export it without --quantize");
}

void export_model(const ModelFolder& source, const std::filesystem::path& destination,
                  const ExportOptions& options) {
  require_new_folder(destination);
  ModelContent content{.texts = source.companions(),
                       .groups = groups_of(source,
                                           [&](const TensorSlot& slot) {
                                             return copy_whole(source,
                                                               *source.weights().find(slot.name));
                                           }),
                       .max_file_bytes = options.max_file_bytes};
  add_others(source, content.groups);
  add_model_card(source.path(), content.texts);
  put_texts(options.texts, content.texts);
  // A folder that cannot be opened is not published.
  write_new_model_folder(destination, content, [](const std::filesystem::path& copy) {
    ModelFolder{copy, WeightForms::kAny};
  });
}

void export_quantised(const ModelFolder& source, const std::filesystem::path& destination,
                      const QuantisedExportOptions& options) {
  options.format.require_valid();
  require_quantisable(source);
  require_new_folder(destination);
  ModelContent content{.texts = source.companions(),
                       .max_file_bytes = options.files.max_file_bytes};
  add_model_card(source.path(), content.texts);
  put_texts(options.files.texts, content.texts);
  for (TextFile& text : content.texts) {
    if (text.path != "config.json") continue;
    text.text = with_member(text.text, "quantization_config",
                            quantization_config(options, source.stored_dtype()));
  }
  content.groups = groups_of(source, [&](const TensorSlot& slot) {
    const Place& place = *source.weights().find(slot.name);
    const bool is_matrix = is_four_bit_matrix(slot);
    return is_matrix ? quantised(place, options) : copy_of(place);
  });
  // A folder that cannot be opened is not published.
  write_new_model_folder(destination, content, [](const std::filesystem::path& copy) {
    ModelFolder{copy, WeightForms::kAny};
  });
}

}  // namespace temper
