// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "io/file.h"
#include "io/safetensors_layout.h"

namespace temper {

/// Tensors that lie in one file, and how their bytes get there.
struct TensorGroup {
  std::vector<TensorSpec> specs;

  /// Writes them all. Shapes: offsets [specs.size()], where each tensor begins in the file.
  std::function<void(const File& file, std::span<const int64_t> offsets)> write;
};

/// What a model's folder consists of.
struct ModelContent {
  std::vector<TextFile> texts = {};
  std::vector<TensorGroup> groups = {};  // In the order in which they fill files.
  std::string stem = "model";            // Of the files of weights.
  int64_t max_file_bytes = 0;            // Of weights; a group that has more is alone in its file.
};

/// Writes a folder of a model, or an adapter: one file of weights if they fit into it, else as few
/// as in order they fill. The folder appears whole or not at all, after `check` of it under another
/// name has returned.
///
/// Throws: ConfigError if `destination` exists; CheckpointError if it cannot be written; what the
/// groups and `check` throw.
void write_new_model_folder(const std::filesystem::path& destination, const ModelContent& content,
                            const std::function<void(const std::filesystem::path&)>& check);

}  // namespace temper
