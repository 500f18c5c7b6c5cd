// SPDX-License-Identifier: Apache-2.0
#include "train/engine.h"

#include <ATen/ATen.h>

#include <utility>

namespace temper {

// Where a unit's flat buffers come from and go to.

void Engine::acquire(int unit) { decoder_.buffers(unit).weights = store_.gather(unit); }

void Engine::release(int unit) {
  decoder_.buffers(unit).weights.reset();
  store_.release(unit);
}

// A tied head computes with the embedding's weights too.
void Engine::acquire_head() {
  acquire(head_unit());
  if (decoder_.config().has_tied_head) acquire(0);
}

void Engine::release_head() {
  release(head_unit());
  if (decoder_.config().has_tied_head) release(0);
}

void Engine::prefetch_head() {
  store_.prefetch(head_unit());
  if (decoder_.config().has_tied_head) store_.prefetch(0);
}

void Engine::lend_gradients(int unit) {
  decoder_.buffers(unit).gradients = store_.gradient_buffer(unit);
}

void Engine::reduce(int unit) {
  decoder_.buffers(unit).gradients.reset();
  store_.reduce(unit);
}

// The schedule.

double Engine::forward_backward(const PackedBatch& batch) {
  std::vector<BlockPass> passes;
  at::Tensor hidden = forward_blocks(embed(batch.tokens), batch, &passes);
  HeadResult head = head_with_gradient(hidden, batch);
  hidden.reset();
  const at::Tensor gradient =
      backward_blocks(std::move(head.hidden_gradient), batch, std::move(passes));
  embed_backward(gradient, batch.tokens);
  return head.loss_sum;
}

double Engine::loss(const PackedBatch& batch) {
  const at::Tensor hidden = forward_blocks(embed(batch.tokens), batch, nullptr);
  acquire_head();
  const HeadResult head = decoder_.head_loss(hidden, batch.targets);
  release_head();
  return head.loss_sum;
}

void Engine::join_loss() {
  for (int unit = 0; unit < head_unit(); ++unit) {
    acquire(unit);
    release(unit);
  }
  acquire_head();
  release_head();
}

at::Tensor Engine::embed(const at::Tensor& tokens) {
  acquire(0);
  store_.prefetch(1);
  at::Tensor hidden = decoder_.embed(tokens);
  release(0);
  return hidden;
}

at::Tensor Engine::forward_blocks(at::Tensor hidden, const PackedBatch& batch,
                                  std::vector<BlockPass>* passes) {
  for (int layer = 0; layer < num_layers(); ++layer) {
    const int unit = 1 + layer;
    acquire(unit);
    if (layer + 1 < num_layers()) {
      store_.prefetch(unit + 1);
    } else {
      prefetch_head();
    }
    if (passes == nullptr) {
      hidden = decoder_.block(layer, hidden, batch);
    } else if (activations_ == Activations::kRecomputed) {
      passes->push_back({hidden, {}});
      hidden = decoder_.block(layer, hidden, batch);
    } else {
      passes->push_back(decoder_.block_with_graph(layer, hidden, batch));
      hidden = passes->back().output.detach();
    }
    release(unit);
  }
  return hidden;
}

HeadResult Engine::head_with_gradient(const at::Tensor& hidden, const PackedBatch& batch) {
  acquire_head();
  store_.prefetch(num_layers());
  lend_gradients(head_unit());
  lend_gradients(0);
  HeadResult result = decoder_.head_loss_and_gradient(hidden, batch.targets);
  release_head();
  reduce(head_unit());
  return result;
}

at::Tensor Engine::backward_blocks(at::Tensor gradient, const PackedBatch& batch,
                                   std::vector<BlockPass> passes) {
  for (int layer = num_layers() - 1; layer >= 0; --layer) {
    const int unit = 1 + layer;
    acquire(unit);
    if (layer > 0) store_.prefetch(unit - 1);
    lend_gradients(unit);
    BlockPass pass = std::move(passes.back());
    passes.pop_back();
    if (!pass.output.defined()) pass = decoder_.block_with_graph(layer, pass.input, batch);
    gradient = decoder_.block_backward(std::move(pass), gradient);
    release(unit);
    reduce(unit);
  }
  return gradient;
}

// The embedding's gradient buffer was lent before the head: a tied head has written to it.
void Engine::embed_backward(const at::Tensor& gradient, const at::Tensor& tokens) {
  if (!decoder_.config().has_tied_head) decoder_.buffers(0).gradients.zero_();
  decoder_.embed_backward(gradient, tokens);
  reduce(0);
}

at::Tensor Engine::extend(const at::Tensor& tokens, const at::Tensor& positions,
                          std::vector<KeyValueCache>& caches) {
  at::Tensor hidden = embed(tokens);
  for (int layer = 0; layer < num_layers(); ++layer) {
    acquire(1 + layer);
    hidden = decoder_.block_cached(layer, hidden, positions, caches[static_cast<size_t>(layer)]);
    release(1 + layer);
  }
  acquire_head();
  const at::Tensor last = hidden.narrow(0, hidden.size(0) - 1, 1);
  at::Tensor logits = decoder_.logits(last).reshape({-1});
  release_head();
  return logits;
}

}  // namespace temper
