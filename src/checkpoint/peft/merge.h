// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <optional>
#include <vector>

#include "checkpoint/model_folder.h"
#include "checkpoint/peft/adapter_folder.h"
#include "checkpoint/peft/combined_adapter.h"
#include "io/file.h"

namespace temper {

/// What adapters are added to.
enum class MergeBase {
  kDense,        ///< The weights as they are.
  kDequantised,  ///< What qlora computed with: the blocks' matrices, quantised and dequantised.
};

/// What becomes of a base and adapters of it.
struct MergeRequest {
  std::vector<WeightedAdapter> adapters = {};
  std::optional<CombineOptions> combination = {};  ///< Nothing: one adapter, as it is.
  std::optional<MergeBase> base = {};              ///< Nothing: what the folder has.
};

/// Writes the model that a base with LoRA adapters is: what `tensor_changes` makes of its tensors
/// in fp32, rounded once to their dtypes, as the safe merge of peft; all else byte for byte. A tied
/// head of which one half was trained as a whole is untied. A base that is dequantised gets all
/// matrices of its blocks so, adapted or not: four bits as the folder has them, or else as the
/// adapters record that they were trained on. Holds one matrix at a time. The base is recorded in
/// merged_adapter.json. Returns how the base was dequantised; nothing if it was dense.
///
/// Throws: ModelError if a sum is not finite, or an adapter is of another base; ConfigError if the
///   adapters cannot be combined or do not record their quantisation, or `destination` exists;
///   CheckpointError if it cannot be written.
std::optional<QuantisationOptions> merge_adapters(const ModelFolder& base,
                                                  const MergeRequest& request,
                                                  const std::filesystem::path& destination);

/// Writes the combination of the adapters as the folder of an adapter, in fp32.
/// Throws: as merge_adapters.
void combine_adapters(const ModelFolder& base, const MergeRequest& request,
                      const std::filesystem::path& destination);

/// Writes the base that a merged model was made of, byte for byte, from where it is recorded to
/// lie: a subtraction would not give its bits back.
///
/// Throws: ModelError if `merged` records no base, or it is not what it was; as merge_adapters.
void restore_base(const std::filesystem::path& merged, const std::filesystem::path& destination);

/// Copies the folder of an adapter.
/// Throws: ConfigError if `destination` exists; CheckpointError if it cannot be written.
void export_adapter(const std::filesystem::path& adapter, const std::filesystem::path& destination,
                    const std::vector<TextFile>& texts = {});

}  // namespace temper
