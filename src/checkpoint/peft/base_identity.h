// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>

#include "checkpoint/model_folder.h"
#include "zero/quantisation_options.h"

namespace temper {

/// Which model an adapter was trained on: the content of base.json beside it.
///
/// peft records no more than a path, and an adapter on another base loads without a word.
struct BaseIdentity {
  std::string path;    ///< Where the base lay; for people.
  std::string sha256;  ///< Of a sample of its weights.
  /// How its matrices were kept in four bits while the adapter was trained; nothing: not at all.
  std::optional<QuantisationOptions> quantisation = {};

  friend bool operator==(const BaseIdentity& a, const BaseIdentity& b) {
    return a.sha256 == b.sha256;
  }
};

/// Of the weights, `sampled_sha256`: training changes every tensor.
/// Throws: ModelError if one cannot be read.
BaseIdentity identify_base(const ModelFolder& base);

/// SHA-256 over names, dtypes and shapes of tensors and the first page of each, in hex, in the
/// order of their names. Throws: ModelError if one cannot be read.
std::string sampled_sha256(const SafetensorsFolder& weights);

std::string to_json(const BaseIdentity& identity);

/// Throws: ModelError if a member is missing; `name` is the file's.
BaseIdentity parse_base_identity(std::string_view text, const std::string& name);

}  // namespace temper
