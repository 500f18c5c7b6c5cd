// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>

#include "checkpoint/export_model.h"
#include "checkpoint/model_folder.h"
#include "model/quantised/four_bit_format.h"

namespace temper {

struct QuantisedExportOptions {
  FourBitFormat format;
  bool quantises_absmax = true;  ///< "Double quantization": 4.13 bits an element, not 4.5.
  int64_t max_file_bytes = kMaxExportFileBytes;
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
