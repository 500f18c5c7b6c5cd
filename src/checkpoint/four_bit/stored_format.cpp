// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/four_bit/stored_format.h"

#include "checkpoint/json_keys.h"
#include "core/concat.h"
#include "core/error.h"
#include "model/quantised/quantised_absmax.h"
#include "model/tensor_names.h"

namespace temper {
namespace {

constexpr const char* kSection = "quantization_config";

// The defaults are those of transformers' BitsAndBytesConfig.
QuantisationOptions read_options(const JsonKeys& keys) {
  keys.require("quant_method", "bitsandbytes");
  if (!keys.has("quant_method")) keys.refuse("quant_method", "is missing");
  if (keys.flag("load_in_8bit", false)) {
    keys.refuse("load_in_8bit", "is true: eight bits an element are not computed here");
  } else if (!keys.flag("load_in_4bit", false)) {
    keys.refuse("load_in_4bit", "is not true");
  }
  keys.require("bnb_4bit_quant_storage", "uint8");
  const std::string kind = keys.has("bnb_4bit_quant_type") ? keys.text("bnb_4bit_quant_type")
                                                           : name_of(FourBitKind::kFp4);
  if (kind != name_of(FourBitKind::kNf4) && kind != name_of(FourBitKind::kFp4)) {
    keys.refuse("bnb_4bit_quant_type", concat("is ", shown(kind), ", wanted nf4 or fp4"));
  }
  return {.kind = kind == name_of(FourBitKind::kNf4) ? FourBitKind::kNf4 : FourBitKind::kFp4,
          .is_double = keys.flag("bnb_4bit_use_double_quant", false)};
}

}  // namespace

std::string name_of(FourBitKind kind) { return kind == FourBitKind::kNf4 ? "nf4" : "fp4"; }

std::string describe(const QuantisationOptions& options) {
  return name_of(options.kind) + (options.is_double ? ", double" : ", not double");
}

bool is_four_bit_matrix(const TensorSlot& slot) {
  return slot.is_matrix() && is_in_block(slot.name);
}

std::string four_bit_state_name(const std::string& matrix, FourBitKind kind) {
  return concat(matrix, ".quant_state.bitsandbytes__", name_of(kind));
}

std::vector<TensorSpec> four_bit_specs(const std::string& matrix, int64_t num_elements,
                                       const QuantisationOptions& options, int64_t state_bytes) {
  const int64_t num_blocks = FourBitFormat{options.kind}.num_blocks(num_elements);
  const DType absmax_dtype = options.is_double ? DType::kU8 : DType::kF32;
  std::vector<TensorSpec> specs = {
      {matrix, DType::kU8, {FourBitFormat::num_bytes(num_elements), 1}},
      {matrix + ".quant_map", DType::kF32, {16}},
      {four_bit_state_name(matrix, options.kind), DType::kU8, {state_bytes}},
      {matrix + ".absmax", absmax_dtype, {num_blocks}},
  };
  if (!options.is_double) return specs;
  constexpr int64_t kBlockSize = QuantisedAbsmax::kBlockSize;
  specs.push_back(
      {matrix + ".nested_absmax", DType::kF32, {(num_blocks + kBlockSize - 1) / kBlockSize}});
  specs.push_back({matrix + ".nested_quant_map", DType::kF32, {256}});
  return specs;
}

bool names_quantisation(std::string_view config) {
  const Json json = Json::parse(config, nullptr, false);
  return json.is_object() && json.contains(kSection) && !json[kSection].is_null();
}

bool names_mxfp4(std::string_view config) {
  if (!names_quantisation(config)) return false;
  const Json section = Json::parse(config)[kSection];
  return section.is_object() && section.value("quant_method", Json()) == "mxfp4";
}

std::optional<QuantisationOptions> parse_quantization_config(std::string_view config,
                                                             const std::string& name) {
  if (!names_quantisation(config)) return {};
  const Json json = parse_json(config, {name, FilePurpose::kModel});
  std::vector<std::string> problems;
  const QuantisationOptions options =
      read_options(JsonKeys(json[kSection], concat(kSection, "."), problems));
  if (problems.empty()) return options;
  std::string list = name + " is of a model that is quantised in a way that is not read here:";
  for (const std::string& problem : problems) list += "\n  " + problem;
  throw ModelError(list,
                   "use the model that it was made of, or one that bitsandbytes quantised to "
                   "four bits");
}

}  // namespace temper
