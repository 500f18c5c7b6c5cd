// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "io/dtype.h"
#include "io/safetensors_layout.h"
#include "model/model_config.h"
#include "model/unit_layout.h"
#include "zero/unit_store.h"

namespace temper::testing {

enum class Head { kTied, kUntied };

/// The text of the tiny model's config.json, and what it says.
std::string tiny_config_text(Head head);
ModelConfig tiny_config(Head head);
std::vector<UnitLayout> tiny_units(Head head);

/// The tensors of the tiny model, to be changed by tests of what is refused.
std::vector<TensorSpec> tiny_tensors(Head head, DType dtype);

/// Element `i` of a weight, as a number that depends on its name and place alone.
float tiny_value(const std::string& name, int64_t i);

/// What is left of a number in a file of `dtype`.
float rounded(float number, DType dtype);

/// Writes tensors with their tiny values into `num_files` files and, for several, an index.
void write_weights(const std::filesystem::path& folder, const std::vector<TensorSpec>& tensors,
                   size_t num_files = 1);

/// Writes a whole folder: configuration, a tokenizer of a few bytes, weights.
void write_tiny_folder(const std::filesystem::path& folder, Head head, DType dtype,
                       size_t num_files = 1);

/// Fills master weights and moments with numbers that depend on `step`, their tensor and their
/// place alone, whatever the sharding; then publishes the weights.
void fill_state(UnitStore& store, int64_t step);

/// Whether a store has the numbers of `fill_state`, bit for bit.
bool has_state(const UnitStore& store, int64_t step);

}  // namespace temper::testing
