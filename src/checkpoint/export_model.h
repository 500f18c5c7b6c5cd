// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <vector>

#include "checkpoint/model_folder.h"
#include "checkpoint/text_file.h"
#include "io/file.h"
#include "io/safetensors_folder.h"

namespace temper {

/// The most bytes that huggingface_hub puts into one file of weights.
inline constexpr int64_t kMaxExportFileBytes = 5'000'000'000;

/// Writes one tensor of the source, in its own dtype, to a file from byte `offset` on.
using WriteTensor =
    std::function<void(const SafetensorsFolder::Place& from, const File& to, int64_t offset)>;

/// Byte for byte.
void copy_tensor(const SafetensorsFolder::Place& from, const File& to, int64_t offset);

struct ExportOptions {
  int64_t max_file_bytes = kMaxExportFileBytes;
  WriteTensor write = copy_tensor;
  std::vector<TextFile> texts = {};  ///< More files for the folder.
};

/// Copies a model into a folder with the files that transformers itself would write: one file of
/// weights if they fit into it, else as few as in order they fill; configuration and tokenizer byte
/// for byte. The folder appears whole or not at all. Copying holds a small buffer, never a whole
/// tensor.
///
/// Throws: ConfigError if `destination` exists; CheckpointError if it cannot be written; ModelError
/// if the source cannot be read, or the copy would not be read back.
void export_model(const ModelFolder& source, const std::filesystem::path& destination,
                  const ExportOptions& options = {});

}  // namespace temper
