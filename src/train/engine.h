// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <span>
#include <vector>

#include "model/decoder.h"
#include "model/ops/virtual_rows.h"
#include "model/packed_batch.h"
#include "train/expert_units.h"
#include "zero/unit_store.h"

namespace temper {

/// What to try where what a model computes is not finite.
inline constexpr const char* kNotFiniteRemedy =
    "look for tensors that are not finite in the model or adapter; if they are whole, compute with "
    "--dtype float32";

/// Whether a block's activations wait for its backward pass or are computed again there.
enum class Activations { kKept, kRecomputed };

/// Sums over the targets of a micro-batch.
struct MicroBatchLoss {
  double cross_entropy = 0.0;
  double kl = 0.0;             ///< The divergence from another model, without its weight.
  at::Tensor of_targets = {};  ///< [n] fp32 on the host, what the cross-entropy is the sum of.
};

/// Runs the decoder unit by unit and says out loud what happens when: gather what the next one
/// needs while this one computes, release it, reduce its gradients. No hooks. What is frozen gets
/// no gradients, and the backward pass ends at the lowest unit of the decoder that computes with
/// something that is trained.
///
/// Collective: every rank makes the same calls in the same order, with a batch of its own.
class Engine {
 public:
  /// `store` has the units of the decoder, then those of the adapter, which is attached to it, if
  /// there is one. All must outlive the engine.
  Engine(Decoder& decoder, UnitStore& store, Activations activations,
         const Adapter* adapter = nullptr);

  const Decoder& decoder() const { return decoder_; }

  /// Null if there is none.
  const Adapter* adapter() const { return adapter_; }

  /// From now on the distributions of targets are kept near those of `other`, an engine of a frozen
  /// model with the same vocabulary, whose forward pass comes before each of this one's. It may
  /// compute with units of the same store, and must outlive this.
  void keep_near(Engine& other, const KlOptions& kl);

  /// Null if there is none.
  const Engine* other() const { return other_; }

  /// One micro-batch forward and backward: its gradients are handed to the store to be folded.
  /// `number` is the micro-batch's in the run, which random masks depend on.
  MicroBatchLoss forward_backward(const PackedBatch& batch, int64_t number);

  /// Takes part in the collectives of `forward_backward` on a rank that has no micro-batch left.
  /// What it hands to the store is no gradient.
  void join_forward_backward();

  /// What the model says of each of the batch's targets, in the order of its rows.
  TargetScores scores(const PackedBatch& batch);

  /// Takes part in the collectives of `scores` or `extend` on a rank that has no batch
  /// left.
  void join_loss();

  /// The next tokens of sequences, each a document of the batch, appended to its caches. All of
  /// them begin, or all go on. Positions count the sequence's tokens alone, whatever an adapter
  /// puts before it; targets are not read.
  /// Shapes: caches [document]; num_logits [document], how many of its last tokens it is about;
  ///   returns the logits after each of them, [their sum, vocab_size] fp32, whose bits do not
  ///   depend on the other documents.
  at::Tensor extend(const PackedBatch& batch, std::span<KeyValueCaches* const> caches,
                    std::span<const int64_t> num_logits);

 private:
  // What one unit of the decoder computes with: its own unit of the store, and others beside it.
  using Needs = std::vector<int>;
  static constexpr int kNobody = -1;

  int num_layers() const { return decoder_.num_users() - 2; }
  int head() const { return decoder_.num_users() - 1; }
  void need(int user, int unit, UnitBuffers& buffers);

  void prefetch(int user);
  void acquire(int user);
  void release(int user, int next);
  void lend_gradients(int user);
  void reduce(int user);
  int next_backward(int user) const;

  bool has_prompt() const { return adapter_ != nullptr && adapter_->prompt.is_defined(); }
  VirtualRows prompt_rows(const std::vector<int64_t>& document_begins) const;
  PackedBatch after_prompt(const PackedBatch& batch) const;
  enum class Documents { kBegin, kGoOn };
  at::Tensor embed(const PackedBatch& batch, Documents documents = Documents::kBegin);
  at::Tensor forward_blocks(at::Tensor hidden, const PackedBatch& batch,
                            std::vector<BlockPass>* passes);
  at::Tensor states_at_targets(const PackedBatch& batch);
  int next_forward(int user) const { return user < last_ ? user + 1 : kNobody; }
  void join_forward();
  void join_experts_backward(int layer);
  template <typename HeadPass>
  auto forward(const PackedBatch& batch, HeadPass head_pass);
  HeadResult head_with_gradient(const at::Tensor& hidden, const PackedBatch& batch,
                                at::Tensor other_states);
  at::Tensor backward_blocks(at::Tensor gradient, const PackedBatch& batch,
                             std::vector<BlockPass> passes);
  void embed_backward(const at::Tensor& gradient, const PackedBatch& batch);

  Decoder& decoder_;
  UnitStore& store_;
  ExpertUnits experts_;
  Activations activations_;
  const Adapter* adapter_;
  std::vector<Needs> needs_;           // [user], a unit of the decoder.
  std::vector<UnitBuffers*> buffers_;  // [unit] of the store; null where none is computed with.
  std::vector<int> first_user_;        // [unit], whose backward pass is the last to add to it.
  int lowest_trained_;                 // The first user of something that is trained.
  int last_;                           // The head, or the block before it while nothing is asked
                                       // of the head.
  Engine* other_ = nullptr;            // Of the model that this one is kept near.
  KlOptions kl_;
};

}  // namespace temper
