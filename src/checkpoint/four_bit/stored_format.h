// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/safetensors_layout.h"
#include "model/unit_layout.h"
#include "zero/quantisation_options.h"

namespace temper {

/// "nf4" or "fp4".
std::string name_of(FourBitKind kind);

/// "nf4, double", as people are told.
std::string describe(const QuantisationOptions& options);

/// Whether transformers makes a four-bit module of this weight: a matrix of a transformer block.
bool is_four_bit_matrix(const TensorSlot& slot);

/// "<matrix>.quant_state.bitsandbytes__nf4": the tensor whose bytes are the JSON of its QuantState.
std::string four_bit_state_name(const std::string& matrix, FourBitKind kind);

/// The tensors that bitsandbytes stores for a matrix: codes, values of the codes, state of
/// `state_bytes` bytes, scales; and the scales' scales and values where these are quantised, too.
std::vector<TensorSpec> four_bit_specs(const std::string& matrix, int64_t num_elements,
                                       const QuantisationOptions& options, int64_t state_bytes);

/// Whether a config.json has a `quantization_config`.
bool names_quantisation(std::string_view config);

/// Whether that says MXFP4, which is not computed in four bits here but read as what it stands for.
bool names_mxfp4(std::string_view config);

/// How the matrices of a model are stored, by the `quantization_config` of its config.json; nothing
/// if there is none. `name` is the file's, for messages.
/// Throws: ModelError that lists all that is not read here: other methods than bitsandbytes, eight
///   bits, another storage than uint8.
std::optional<QuantisationOptions> parse_quantization_config(std::string_view config,
                                                             const std::string& name);

}  // namespace temper
