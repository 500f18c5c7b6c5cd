// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "checkpoint/model_folder.h"
#include "checkpoint/unit_files.h"
#include "io/dtype.h"
#include "io/file.h"

namespace temper {

/// The folder of a checkpoint that other programs open: which files of weights it has, and which
/// small files go with them.
struct PublishedFolder {
  UnitFileSet files;
  DType stored_dtype;  ///< Of the weights, unless the configuration says otherwise.

  /// The small files, for weights in that dtype; their paths are below the folder.
  /// Throws: ModelError if one cannot be read.
  std::function<std::vector<TextFile>(DType)> companions;

  const SafetensorsFolder* base = nullptr;  ///< Where tensors that are frozen are copied from.
};

/// What the data of a run makes of the small files of its result.
struct ResultTexts {
  std::vector<int64_t> end_tokens = {};  ///< They end a text beside those of the model.
  std::string chat_template = {};        ///< In place of the model's own; empty: that stays.
  std::string model_card = {};           ///< README.md; empty: none.
};

/// Adds tokens to those that end a text in a model's configurations among the small files.
void add_end_tokens(const std::vector<int64_t>& added, const ModelFolder& source,
                    std::vector<TextFile>& files);

/// That of a model: configuration and tokenizer are those of `source`, which must outlive the
/// result.
PublishedFolder published_model(const ModelFolder& source, const ResultTexts& texts = {});

}  // namespace temper
