// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "model/adapter/initial_values.h"
#include "model/adapter/prefix_projection.h"
#include "model/ops/bottleneck.h"
#include "model/ops/embedding.h"
#include "model/ops/low_rank.h"
#include "model/ops/virtual_rows.h"
#include "model/unit_layout.h"
#include "model/weight.h"

namespace temper {

/// What a parameter-efficient method adds to one block; undefined where it adds nothing.
struct BlockAddition {
  LowRank queries_keys_values;
  LowRank output;
  LowRank gate_up;
  LowRank down;
  PrefixWeights prefix;
  BottleneckWeights after_attention;
  BottleneckWeights after_mlp;
  Weight attention_norm, query_norm, key_norm, mlp_norm;  ///< Instead of the block's own.

  bool is_empty() const {
    return !queries_keys_values.is_defined() && !output.is_defined() && !gate_up.is_defined() &&
           !down.is_defined() && !prefix.is_defined() && !after_attention.is_defined() &&
           !after_mlp.is_defined() && !attention_norm.is_defined() && !query_norm.is_defined() &&
           !key_norm.is_defined() && !mlp_norm.is_defined();
  }
};

/// The trainable tensors of a parameter-efficient method, and the places of a decoder where they
/// are used. A method is a function that makes one; model families know none of them.
struct Adapter {
  UnitLayout unit;                       ///< All tensors, named as in the adapter's files.
  std::vector<InitialValues> initial;    ///< [slot]
  std::shared_ptr<UnitBuffers> buffers;  ///< The engine sets its tensors before each use; fp32.
  std::shared_ptr<Dropout> dropout;      ///< The engine says for which micro-batch.
  std::vector<BlockAddition> blocks;     ///< [layer]
  Weight prompt = {};  ///< [tokens, hidden_size], before each document's embeddings; or undefined.
  Weight embedding = {}, final_norm = {}, head = {};  ///< Instead of the model's own; or undefined.
  TokenRows embedding_rows = {}, head_rows = {};      ///< The same rows where the head is tied.
  std::optional<PrefixProjection> projection = {};  ///< What `unit` is computed from, if anything.

  /// All that a store holds of it: `unit` comes first.
  std::vector<UnitLayout> units() const {
    std::vector<UnitLayout> all = {unit};
    if (projection) all.push_back(projection->unit());
    return all;
  }

  /// Whether the gradient of the tokens' embeddings is wanted.
  bool trains_embedding() const { return embedding.is_defined() || embedding_rows.is_defined(); }

  /// The lowest block that gradients must go through: one beyond the last if none must.
  int lowest_layer() const {
    if (prompt.is_defined() || trains_embedding()) return 0;
    size_t layer = 0;
    while (layer < blocks.size() && blocks[layer].is_empty()) ++layer;
    return static_cast<int>(layer);
  }
};

/// The units of an adapter; none where there is no adapter.
inline std::vector<UnitLayout> units_of(const std::optional<Adapter>& adapter) {
  return adapter ? adapter->units() : std::vector<UnitLayout>();
}

}  // namespace temper
