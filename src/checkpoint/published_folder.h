// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "checkpoint/model_folder.h"
#include "checkpoint/text_file.h"
#include "checkpoint/unit_files.h"
#include "io/dtype.h"

namespace temper {

/// The folder of a checkpoint that other programs open: which files of weights it has, and which
/// small files go with them.
struct PublishedFolder {
  UnitFileSet files;
  DType stored_dtype;  ///< Of the weights, unless the configuration says otherwise.

  /// The small files, for weights in that dtype; their paths are below the folder.
  /// Throws: ModelError if one cannot be read.
  std::function<std::vector<TextFile>(DType)> companions;
};

/// That of a model: configuration and tokenizer are those of `source`, which must outlive the
/// result. `end_tokens` end a text beside those of the model.
PublishedFolder published_model(const ModelFolder& source,
                                const std::vector<int64_t>& end_tokens = {});

}  // namespace temper
