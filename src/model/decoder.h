// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "model/adapter/adapter.h"
#include "model/decoder_units.h"
#include "model/head.h"
#include "model/key_value_cache.h"
#include "model/model_config.h"
#include "model/packed_batch.h"
#include "model/unit_layout.h"
#include "model/weight.h"

namespace temper {

class BalanceLoss;
class Block;
struct ExpertLender;
class Rotary;
struct PlacedUnit;
struct RotaryAngles;

/// One block's forward pass with what its backward pass needs: an autograd graph of its own.
struct BlockPass {
  at::Tensor input;   ///< [T, hidden], a leaf.
  at::Tensor output;  ///< [T, hidden].
};

/// A decoder as a list of units that compute on buffers given to them.
///
/// It owns no weights and knows no rank. Units: 0 is the embedding, 1 … num_layers the blocks, the
/// last one the final norm with the output head; behind them parts of these that are trained alone.
/// A tied head reads (and adds its gradient to) the embedding's unit. Every function is
/// deterministic: the same bits for any number of threads.
/// Shapes: T tokens of a packed batch; hidden states [T, hidden_size] in the compute dtype.
class Decoder {
 public:
  /// `units` are those of the model, all of them undivided if not given.
  explicit Decoder(ModelConfig config, std::optional<DecoderUnits> units = {});
  ~Decoder();

  const ModelConfig& config() const { return config_; }
  const std::vector<UnitLayout>& units() const { return units_.layouts; }

  int num_units() const { return static_cast<int>(units_.layouts.size()); }

  /// The embedding, the blocks and the head, which each compute at once.
  int num_users() const { return static_cast<int>(config_.num_layers) + 2; }

  /// The first of these that computes with something of the model that is trained.
  int lowest_trained() const { return units_.lowest_trained(); }

  /// Which of these computes with a unit.
  int user_of(int unit) const { return units_.users[static_cast<size_t>(unit)]; }

  /// From now on the decoder computes with what `adapter` adds to it or has instead.
  void attach(const Adapter& adapter);

  /// Takes those rotary factors that contexts of at most so many tokens need, virtual ones among
  /// them, for all that is computed from now on: where a model has two sets (longrope), which one
  /// is used may not depend on what happens to be packed together. Returns whether it is the long
  /// one, or nothing if there are no two. Until then it is the short one.
  std::optional<bool> choose_positions(int64_t longest_context);

  /// The buffers unit `unit` computes on; the engine sets their tensors before each call below.
  UnitBuffers& buffers(int unit) { return *buffers_[static_cast<size_t>(unit)]; }

  /// From now on blocks ask `lender` for their experts' units while they compute: the buffers of
  /// these are set by it, not before.
  void borrow_experts(ExpertLender lender);

  /// Adds how often the last micro-batch has chosen each expert of each layer.
  /// Shape: choices [num_layers * experts].
  void add_expert_choices(std::vector<int64_t>& choices) const;

  /// Looks the tokens up, scales their rows and adds those of their positions, where these are
  /// learned. Reads unit 0's weights. Returns [T, hidden].
  at::Tensor embed(const PackedBatch& batch) const;

  /// Puts the rows of tokens that an adapter trains into the buffer of a unit that was gathered.
  void put_token_rows(int unit) const;

  /// From the gradient `given` of embeddings [T, hidden] to those of its matrices, in token order:
  /// added where a tied head has written to it before, else written.
  void embed_backward(const at::Tensor& given, const PackedBatch& batch) const;

  /// The block of unit 1 + layer without a graph.
  at::Tensor block(int layer, const at::Tensor& hidden, const PackedBatch& batch) const;

  /// The same with a graph for `block_backward`. Bits equal those of `block`.
  BlockPass block_with_graph(int layer, const at::Tensor& hidden, const PackedBatch& batch) const;

  /// Writes (not adds) the unit's gradients; returns the gradient of the block's input. Frees the
  /// graph.
  at::Tensor block_backward(BlockPass pass, const at::Tensor& gradient) const;

  /// The next tokens of sequences, each a document of the batch, appended to the layer's cache of
  /// each. Their positions continue those before. Shapes: caches [document].
  at::Tensor block_cached(int layer, const at::Tensor& hidden, const PackedBatch& batch,
                          std::span<KeyValueCaches* const> caches) const;

  /// Final norm, logits at targets only and in chunks, loss. Reads the head's unit, and unit 0
  /// where the head is tied.
  HeadResult head_loss(const at::Tensor& hidden, const HeadTargets& targets) const;

  /// The same logits' scores of each target instead of their loss.
  TargetScores head_scores(const at::Tensor& hidden, const HeadTargets& targets) const;

  /// The loss with gradients: writes the head unit's gradients; where the head is tied, *writes*
  /// the
  /// embedding's (whose backward then adds to it). A batch without targets gives zeros.
  HeadResult head_loss_and_gradient(const at::Tensor& hidden, const HeadTargets& targets,
                                    const OtherHead* other = nullptr) const;

  /// This decoder's head for another one's that is kept near it; the buffers must be filled there.
  /// Shapes: hidden [n, hidden], at the rows with a target.
  OtherHead head_for_another(at::Tensor hidden, const KlOptions& kl) const {
    return {*head_, std::move(hidden), kl};
  }

  /// Logits of the given hidden states. Returns [T, vocab_size] fp32.
  at::Tensor logits(const at::Tensor& hidden) const;

 private:
  std::vector<PlacedUnit> units_of(int user) const;
  void make_positions();
  RotaryAngles angles(int layer, const PackedBatch& batch, at::ScalarType dtype) const;
  at::Tensor places(const at::Tensor& positions) const;
  double embedding_scale(at::ScalarType dtype) const;
  at::Tensor run_block(int layer, const at::Tensor& hidden, const PackedBatch& batch) const;

  ModelConfig config_;
  DecoderUnits units_;
  std::vector<std::shared_ptr<UnitBuffers>> buffers_;  // [unit]
  std::vector<Block> blocks_;                          // [layer]
  std::shared_ptr<BalanceLoss> balance_;               // Of its experts,
  std::shared_ptr<ExpertLender> lender_;               // and where they come from.
  Weight embedding_;                                   // [vocab_size, hidden_size]
  Weight learned_positions_;  // [max_positions, hidden_size]; undefined where there are none.
  TokenRows embedding_rows_, head_rows_;  // Where only they are trained.
  std::unique_ptr<Head> head_;
  std::unique_ptr<Rotary> rotary_, window_rotary_;
  int64_t first_position_ = 0;  // Of each document: a prefix comes before it.
};

}  // namespace temper
