// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <string>
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
  /// To one expert's products.
  struct Expert {
    LowRank gate_up;
    LowRank down;
  };
  std::vector<Expert> experts;  ///< [expert]; empty where no expert is adapted.
  PrefixWeights prefix;
  BottleneckWeights after_attention;
  BottleneckWeights after_mlp;
  /// Instead of the block's own.
  Weight attention_norm, after_attention_norm, query_norm, key_norm, mlp_norm, after_mlp_norm;
};

/// A tensor of an adapter, which is made of them.
struct AdapterTensor {
  static constexpr int64_t kNoLayer = -1;

  TensorSlot slot;
  InitialValues initial = {};
  int64_t layer = kNoLayer;  ///< The only one that uses it.
  UnitLayout::Use use = UnitLayout::Use::kPublished;
};

/// The name of what the base is changed by before an adapter's tensor `name` is trained.
std::string base_change_name(const std::string& name);

/// What of an adapter is gathered, used and released together; fp32.
struct AdapterUnit {
  UnitLayout layout;
  std::vector<InitialValues> initial = {};    ///< [slot]
  std::shared_ptr<UnitBuffers> buffers = {};  ///< The engine sets its tensors before each use.
  std::vector<int> users = {};  ///< The decoder's units that compute with it, ascending.
};

/// The trainable tensors of a parameter-efficient method, and the places of a decoder where they
/// are used. A method is a function that makes one; model families know none of them.
struct Adapter {
  /// Of tensors in the order of the adapter's files, where nothing uses them yet.
  Adapter(const std::vector<AdapterTensor>& tensors, std::shared_ptr<Dropout> dropout,
          int64_t num_layers);

  UnitLayout file;  ///< All tensors that are trained and published, named and ordered as in files.
  std::vector<AdapterUnit> units;  ///< One a layer, and one for what lies outside the layers; then
                                   ///< as many of what changes the base.
  std::shared_ptr<Dropout> dropout;   ///< The engine says for which micro-batch.
  std::vector<BlockAddition> blocks;  ///< [layer]
  Weight prompt = {};  ///< [tokens, hidden_size], before each document's embeddings; or undefined.
  Weight embedding = {}, final_norm = {}, head = {};  ///< Instead of the model's own; or undefined.
  TokenRows embedding_rows = {}, head_rows = {};      ///< The same rows where the head is tied.
  std::optional<PrefixProjection> projection = {};    ///< What a prefix is computed from.

  /// From now on the only unit is computed from another one, the projection's.
  void add_projection(PrefixProjection made);

  /// The decoder's units: the embedding, the blocks and the head.
  static constexpr int kEmbeddingUser = 0;
  static int block_user(int64_t layer) { return static_cast<int>(1 + layer); }
  int head_user() const { return block_user(std::ssize(blocks)); }

  /// The handle by which unit `user` of the decoder computes with a tensor and, if `shape` is
  /// given, with those that lie behind it. Undefined if there is no such tensor.
  Weight use(const std::string& name, int user, const std::vector<int64_t>& shape = {});

  /// What a store holds of it.
  std::vector<UnitLayout> layouts() const;
};

/// The units of an adapter; none where there is no adapter.
inline std::vector<UnitLayout> layouts_of(const std::optional<Adapter>& adapter) {
  return adapter ? adapter->layouts() : std::vector<UnitLayout>();
}

}  // namespace temper
