// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>

#include "checkpoint/model_folder.h"
#include "checkpoint/peft/adapter_folder.h"

namespace temper {

/// Writes the model that a base with a LoRA adapter is: W + scale * B A for each adapted matrix,
/// added in fp32 and rounded once to the dtype of W, as the safe merge of peft; all else byte for
/// byte. Holds one matrix at a time. The base is recorded in merged_adapter.json.
///
/// Throws: ModelError if a sum is not finite, or the adapter is of another base; ConfigError if
/// `destination` exists; CheckpointError if it cannot be written.
void merge_adapter(const ModelFolder& base, const AdapterFolder& adapter,
                   const std::filesystem::path& destination);

/// Writes the base that a merged model was made of, byte for byte, from where it is recorded to
/// lie: a subtraction would not give its bits back.
///
/// Throws: ModelError if `merged` records no base, or it is not what it was; as merge_adapter.
void restore_base(const std::filesystem::path& merged, const std::filesystem::path& destination);

/// Copies the folder of an adapter.
/// Throws: ConfigError if `destination` exists; CheckpointError if it cannot be written.
void export_adapter(const std::filesystem::path& adapter, const std::filesystem::path& destination);

}  // namespace temper
