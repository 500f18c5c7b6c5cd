// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <vector>

#include "checkpoint/model_folder.h"
#include "checkpoint/new_model_folder.h"
#include "model/quantised/four_bit_format.h"

namespace temper {

/// The most bytes that huggingface_hub puts into one file of weights.
inline constexpr int64_t kMaxExportFileBytes = 5'000'000'000;

/// A tensor that is copied as it is, through a small buffer.
TensorGroup copy_of(const SafetensorsFolder::Place& place);

/// Rounds a sum of weights, fp32, to the tensor's dtype, and writes it; changes `sum`.
/// Throws: ModelError for a number that the dtype cannot hold, or that is not finite.
void write_rounded(const at::Tensor& sum, const TensorSpec& spec, const File& to, int64_t offset);

/// One group for each tensor of a model, in its order.
std::vector<TensorGroup> groups_of(const ModelFolder& source,
                                   const std::function<TensorGroup(const TensorSlot&)>& group_of);

/// Copies of the tensors that belong to other parts than the one that reads text, byte for byte.
void add_others(const ModelFolder& source, std::vector<TensorGroup>& groups);

struct ExportOptions {
  std::vector<TextFile> texts = {};  ///< In place of the model's small files, or beside them.
  int64_t max_file_bytes = kMaxExportFileBytes;
};

/// Copies a model into a folder with the files that transformers itself would write: one file of
/// weights if they fit into it, else as few as in order they fill; configuration and tokenizer byte
/// for byte. The folder appears whole or not at all. Holds a small buffer, never a whole tensor.
///
/// Throws: ConfigError if `destination` exists; CheckpointError if it cannot be written; ModelError
/// if the source cannot be read, or the copy would not be read back.
void export_model(const ModelFolder& source, const std::filesystem::path& destination,
                  const ExportOptions& options = {});

struct QuantisedExportOptions {
  FourBitFormat format;
  bool quantises_absmax = true;  ///< "Double quantization": 4.13 bits an element, not 4.5.
  ExportOptions files = {};
};

/// Copies a model into a folder of four-bit weights that transformers and vLLM open with
/// bitsandbytes: the matrices of the transformer blocks are quantised; embedding, head, norms and
/// biases are copied as they are. The folder appears whole or not at all. Holds a small buffer and
/// the scales of one matrix.
///
/// Throws: as export_model; ModelError too for a weight that is not finite.
void export_quantised(const ModelFolder& source, const std::filesystem::path& destination,
                      const QuantisedExportOptions& options);

}  // namespace temper
