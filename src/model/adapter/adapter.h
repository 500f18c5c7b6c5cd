// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <vector>

#include "model/adapter/initial_values.h"
#include "model/ops/bottleneck.h"
#include "model/ops/low_rank.h"
#include "model/ops/prefix.h"
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

  bool is_empty() const {
    return !queries_keys_values.is_defined() && !output.is_defined() && !gate_up.is_defined() &&
           !down.is_defined() && !prefix.is_defined() && !after_attention.is_defined() &&
           !after_mlp.is_defined();
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

  /// The lowest block that gradients must go through.
  int lowest_layer() const {
    int layer = 0;
    while (!prompt.is_defined() && blocks[static_cast<size_t>(layer)].is_empty()) ++layer;
    return layer;
  }
};

}  // namespace temper
