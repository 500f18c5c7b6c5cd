// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "model/decoder.h"
#include "model/ops/virtual_rows.h"
#include "model/packed_batch.h"
#include "zero/unit_store.h"

namespace temper {

/// Whether a block's activations wait for its backward pass or are computed again there.
enum class Activations { kKept, kRecomputed };

/// Runs the decoder unit by unit and says out loud what happens when: gather the next unit while
/// this one computes, release it, reduce its gradient. No hooks. With an adapter the decoder's own
/// units are frozen: they get no gradients, and the backward pass ends at the lowest block that the
/// adapter changes.
///
/// Collective: every rank makes the same calls in the same order, with a batch of its own.
class Engine {
 public:
  Engine(Decoder& decoder, UnitStore& store, Activations activations)
      : decoder_(decoder), weights_(store), gradients_(&store), activations_(activations) {}

  /// The same for weights that cannot be trained: before `forward_backward` an adapter is attached.
  Engine(Decoder& decoder, UnitWeights& frozen, Activations activations)
      : decoder_(decoder), weights_(frozen), activations_(activations) {}

  /// From now on the decoder computes with an adapter, whose only unit `store` holds: it alone gets
  /// gradients. All three must outlive the engine.
  void attach(const Adapter& adapter, UnitStore& store);

  const Decoder& decoder() const { return decoder_; }

  /// The one that is attached, or null.
  const Adapter* adapter() const { return adapter_; }

  /// Whether the decoder's own units are.
  bool is_frozen() const { return adapter_ != nullptr; }

  /// One micro-batch forward and backward: its gradients are handed to the store to be folded.
  /// `number` is the micro-batch's in the run, which random masks depend on.
  /// Returns the summed cross-entropy over its targets.
  double forward_backward(const PackedBatch& batch, int64_t number);

  /// The summed cross-entropy over the batch's targets, without gradients.
  double loss(const PackedBatch& batch);

  /// Takes part in the collectives of `loss` on a rank that has no batch left.
  void join_loss();

  /// The next tokens of one sequence, appended to `caches` [layer]. Returns the logits after the
  /// last of them. Shapes: tokens, positions [T] int64; logits [vocab_size] fp32.
  at::Tensor extend(const at::Tensor& tokens, const at::Tensor& positions,
                    std::vector<KeyValueCache>& caches);

 private:
  int num_layers() const { return decoder_.num_units() - 2; }
  int head_unit() const { return decoder_.num_units() - 1; }
  int lowest_trained_unit() const;

  void acquire(int unit);
  void release(int unit);
  void acquire_head();
  void release_head();
  void prefetch_head();
  void acquire_adapter();
  void release_adapter();
  void lend_gradients(int unit);
  void reduce(int unit);
  void lend_adapter_gradients();
  void reduce_adapter();

  bool has_prompt() const { return adapter_ != nullptr && adapter_->prompt.is_defined(); }
  VirtualRows prompt_rows(const std::vector<int64_t>& document_begins) const;
  PackedBatch after_prompt(const PackedBatch& batch) const;
  at::Tensor embed(const PackedBatch& batch);
  at::Tensor embed(const at::Tensor& tokens);
  at::Tensor forward_blocks(at::Tensor hidden, const PackedBatch& batch,
                            std::vector<BlockPass>* passes);
  HeadResult head_with_gradient(const at::Tensor& hidden, const PackedBatch& batch);
  at::Tensor backward_blocks(at::Tensor gradient, const PackedBatch& batch,
                             std::vector<BlockPass> passes);
  void embed_backward(const at::Tensor& gradient, const at::Tensor& tokens);

  Decoder& decoder_;
  UnitWeights& weights_;
  UnitStore* gradients_ = nullptr;  // Of the decoder's own units, unless they are frozen.
  Activations activations_;
  const Adapter* adapter_ = nullptr;  // With its store, or neither.
  UnitStore* adapter_store_ = nullptr;
};

}  // namespace temper
