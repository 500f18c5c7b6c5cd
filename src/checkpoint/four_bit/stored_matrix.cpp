// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/four_bit/stored_matrix.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "checkpoint/companion_files.h"
#include "checkpoint/four_bit/stored_format.h"
#include "checkpoint/json_keys.h"
#include "core/concat.h"
#include "core/error.h"
#include "core/floats.h"
#include "model/quantised/dequantise.h"
#include "model/quantised/dynamic_map.h"
#include "model/quantised/four_bit_format.h"
#include "model/quantised/quantise.h"

namespace temper {
namespace {

DType read_dtype(const JsonKeys& keys) {
  const std::string text = keys.text("dtype");
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    if (text == torch_name(dtype)) return dtype;
  }
  keys.refuse("dtype", concat("is ", shown(text), ", wanted float32, bfloat16 or float16"));
  return DType::kF32;
}

void require_present(const JsonKeys& keys, const char* key, const Json& value) {
  if (!keys.has(key)) keys.refuse(key, "is missing");
  keys.require(key, value);
}

// A number that fp32 holds; bitsandbytes writes that of an fp32 mean.
float read_offset(const JsonKeys& keys) {
  constexpr const char* kKey = "nested_offset";
  if (!keys.has(kKey) || !keys[kKey].is_number() ||
      !std::isfinite(static_cast<float>(keys[kKey].get<double>()))) {
    keys.refuse(kKey, "is not a finite number");
    return 0.0F;
  }
  return static_cast<float>(keys[kKey].get<double>());
}

struct Blocks {
  std::vector<uint8_t> codes;
  std::vector<float> absmax;
};

void read_stored(const ModelFolder& base, const TensorSlot& slot,
                 const QuantisationOptions& options, Blocks& blocks) {
  const StoredMatrix stored(base.weights(), slot, options);
  std::vector<uint8_t> scales(blocks.absmax.size() * (options.is_double ? 1 : sizeof(float)));
  stored.read({0, slot.num_elements()}, blocks.codes, scales);
  if (options.is_double) {
    QuantisedAbsmax nested = stored.nested();
    nested.codes = std::move(scales);
    dequantise_absmax(nested, blocks.absmax);
  } else {
    std::memcpy(blocks.absmax.data(), scales.data(), scales.size());
  }
}

void quantise_dense(const ModelFolder& base, const TensorSlot& slot,
                    const QuantisationOptions& options, Blocks& blocks) {
  quantise(read_tensor(*base.weights().find(slot.name)), {options.kind}, blocks.codes,
           blocks.absmax);
  if (!all_finite(blocks.absmax)) {
    throw ModelError(concat("the tensor ", slot.name, " has numbers that are not finite"),
                     "use a model whose weights are whole");
  }
  if (options.is_double) dequantise_absmax(quantise_absmax(blocks.absmax), blocks.absmax);
}

}  // namespace

StoredMatrix::StoredMatrix(const SafetensorsFolder& weights, const TensorSlot& slot,
                           const QuantisationOptions& options)
    : weights_(weights), name_(slot.name), shape_(slot.shape), options_(options) {
  read_state();
  require_values(".quant_map", four_bit_values(options.kind));
  if (!options.is_double) return;
  require_values(".nested_quant_map", dynamic_map(MapSign::kSigned));
  const auto* place = weights.find(name_ + ".nested_absmax");
  nested_.absmax.resize(static_cast<size_t>(place->tensor->num_elements()));
  read_bytes(".nested_absmax", 0, std::as_writable_bytes(std::span(nested_.absmax)));
  if (!all_finite(nested_.absmax)) refuse(".nested_absmax", "has a number that is not finite");
}

void StoredMatrix::read_state() {
  const std::string full = four_bit_state_name(name_, options_.kind);
  const std::string suffix = full.substr(name_.size());
  const auto* place = weights_.find(full);
  std::string text(static_cast<size_t>(place->tensor->num_elements()), ' ');
  read_bytes(suffix, 0, std::as_writable_bytes(std::span(text)));
  const Json json =
      parse_json(text, {concat(place->file->path().string(), ": ", full), FilePurpose::kModel});
  std::vector<std::string> problems;
  const JsonKeys keys(json, "", problems);
  require_present(keys, "quant_type", name_of(options_.kind));
  require_present(keys, "blocksize", FourBitFormat{}.block_size);
  require_present(keys, "shape", shape_);
  dtype_ = read_dtype(keys);
  if (options_.is_double) {
    require_present(keys, "nested_blocksize", QuantisedAbsmax::kBlockSize);
    require_present(keys, "nested_dtype", "float32");
    nested_.offset = read_offset(keys);
  }
  if (!problems.empty()) refuse(suffix, "says: " + problems.front());
}

void StoredMatrix::require_values(const std::string& suffix, std::span<const float> wanted) const {
  std::vector<float> values(wanted.size());
  read_bytes(suffix, 0, std::as_writable_bytes(std::span(values)));
  if (!std::ranges::equal(values, wanted)) {
    refuse(suffix, concat("has other values than those of ", describe(options_)));
  }
}

void StoredMatrix::read(Range elements, std::span<uint8_t> codes, std::span<uint8_t> scales) const {
  const int64_t first_block = elements.begin / FourBitFormat{}.block_size;
  const int64_t scale_bytes = options_.is_double ? 1 : sizeof(float);
  read_bytes("", elements.begin / 2, std::as_writable_bytes(codes));
  read_bytes(".absmax", first_block * scale_bytes, std::as_writable_bytes(scales));
  if (options_.is_double) return;
  std::vector<float> numbers(scales.size() / sizeof(float));
  std::memcpy(numbers.data(), scales.data(), scales.size());
  if (!all_finite(numbers)) refuse(".absmax", "has a number that is not finite");
}

void StoredMatrix::read_bytes(const std::string& suffix, int64_t offset,
                              std::span<std::byte> bytes) const {
  const auto* place = weights_.find(name_ + suffix);
  place->file->read(place->tensor->bytes.begin + offset, bytes);
}

void StoredMatrix::refuse(const std::string& suffix, const std::string& problem) const {
  const auto* place = weights_.find(name_ + suffix);
  throw ModelError(
      concat(place->file->path().string(), ": the tensor ", name_, suffix, ' ', problem),
      "restore the file, or quantise the model again with bitsandbytes or `temper export "
      "--quantize`");
}

at::Tensor dequantised_matrix(const ModelFolder& base, const TensorSlot& slot,
                              const QuantisationOptions& options) {
  const FourBitFormat format{options.kind};
  const int64_t size = slot.num_elements();
  Blocks blocks{std::vector<uint8_t>(static_cast<size_t>(FourBitFormat::num_bytes(size))),
                std::vector<float>(static_cast<size_t>(format.num_blocks(size)))};
  if (base.is_four_bit(slot)) {
    read_stored(base, slot, options, blocks);
  } else {
    quantise_dense(base, slot, options, blocks);
  }
  at::Tensor values = at::empty(slot.shape, at::kFloat);
  dequantise({blocks.codes, blocks.absmax}, format, values);
  return values;
}

}  // namespace temper
