// SPDX-License-Identifier: Apache-2.0
#include "train/engine.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "comm/collective_ring.h"
#include "core/targets.h"

namespace temper {

// Where a unit's flat buffers come from and go to.

void Engine::acquire(int unit) {
  decoder_.buffers(unit).weights = weights_.gather(unit);
  if (is_frozen()) decoder_.put_token_rows(unit);
}

void Engine::release(int unit) {
  decoder_.buffers(unit).weights.reset();
  weights_.release(unit);
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
  weights_.prefetch(head_unit());
  if (decoder_.config().has_tied_head) weights_.prefetch(0);
}

// An adapter is small: it stays gathered from the first use of a pass to the last.
void Engine::acquire_adapter() {
  if (adapter_ != nullptr) adapter_->buffers->weights = adapter_store_->gather(0);
}

void Engine::release_adapter() {
  if (adapter_ == nullptr) return;
  adapter_->buffers->weights.reset();
  adapter_store_->release(0);
}

void Engine::lend_gradients(int unit) {
  if (is_frozen()) return;
  decoder_.buffers(unit).gradients = gradients_->gradient_buffer(unit);
}

void Engine::reduce(int unit) {
  if (is_frozen()) return;
  decoder_.buffers(unit).gradients.reset();
  gradients_->reduce(unit);
}

void Engine::lend_adapter_gradients() {
  if (adapter_ != nullptr) adapter_->buffers->gradients = adapter_store_->gradient_buffer(0);
}

void Engine::reduce_adapter() {
  if (adapter_ == nullptr) return;
  adapter_->buffers->gradients.reset();
  adapter_store_->reduce(0);
}

void Engine::attach(const Adapter& adapter, UnitStore& store) {
  adapter_ = &adapter;
  adapter_store_ = &store;
  decoder_.attach(adapter);
}

int Engine::lowest_trained_unit() const { return is_frozen() ? 1 + adapter_->lowest_layer() : 0; }

// The schedule.

double Engine::forward_backward(const PackedBatch& batch, int64_t number) {
  acquire_adapter();
  if (adapter_ != nullptr) adapter_->dropout->set_micro_batch(number);
  std::vector<BlockPass> passes;
  const PackedBatch whole = after_prompt(batch);
  at::Tensor hidden = forward_blocks(embed(batch), whole, &passes);
  lend_adapter_gradients();
  HeadResult head = head_with_gradient(hidden, whole);
  hidden.reset();
  const at::Tensor gradient =
      backward_blocks(std::move(head.hidden_gradient), whole, std::move(passes));
  if (!is_frozen() || adapter_->trains_embedding()) embed_backward(gradient, batch.tokens);
  if (has_prompt()) {
    adapter_->prompt.gradient().copy_(prompt_rows(batch.document_begins).sum_virtual(gradient));
  }
  if (adapter_ != nullptr) adapter_->dropout->set_micro_batch({});
  release_adapter();
  reduce_adapter();
  CollectiveRing::own().begin_idle();  // It lives: at stages 0 and 1 none may communicate.
  return head.loss_sum;
}

double Engine::loss(const PackedBatch& batch) {
  acquire_adapter();
  const PackedBatch whole = after_prompt(batch);
  const at::Tensor hidden = forward_blocks(embed(batch), whole, nullptr);
  acquire_head();
  const HeadResult head = decoder_.head_loss(hidden, whole.targets);
  release_head();
  release_adapter();
  CollectiveRing::own().begin_idle();
  return head.loss_sum;
}

void Engine::join_loss() {
  acquire_adapter();
  for (int unit = 0; unit < head_unit(); ++unit) {
    acquire(unit);
    release(unit);
  }
  acquire_head();
  release_head();
  release_adapter();
}

VirtualRows Engine::prompt_rows(const std::vector<int64_t>& document_begins) const {
  return {document_begins, has_prompt() ? adapter_->prompt.shape()[0] : 0};
}

// Each document begins with the prompt, whose rows have no target.
PackedBatch Engine::after_prompt(const PackedBatch& batch) const {
  if (!has_prompt()) return batch;
  const VirtualRows rows = prompt_rows(batch.document_begins);
  const int64_t count = adapter_->prompt.shape()[0];
  const auto insert = [&](const at::Tensor& before, const at::Tensor& numbers) {
    return rows.insert(before.unsqueeze(1), numbers.unsqueeze(1)).squeeze(1);
  };
  const auto options = batch.positions.options();
  return {batch.tokens, insert(at::arange(count, options), batch.positions.add(count)),
          insert(at::full({count}, kNoTarget, options), batch.targets), rows.document_begins()};
}

at::Tensor Engine::embed(const PackedBatch& batch) {
  const at::Tensor hidden = embed(batch.tokens);
  if (!has_prompt()) return hidden;
  const at::Tensor prompt = adapter_->prompt.value().to(hidden.scalar_type());
  return prompt_rows(batch.document_begins).insert(prompt, hidden);
}

at::Tensor Engine::embed(const at::Tensor& tokens) {
  acquire(0);
  weights_.prefetch(1);
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
      weights_.prefetch(unit + 1);
    } else {
      prefetch_head();
    }
    if (passes == nullptr || unit < lowest_trained_unit()) {
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
  weights_.prefetch(num_layers());
  lend_gradients(head_unit());
  if (decoder_.config().has_tied_head) lend_gradients(0);
  HeadResult result = decoder_.head_loss_and_gradient(hidden, batch.targets);
  release_head();
  reduce(head_unit());
  return result;
}

at::Tensor Engine::backward_blocks(at::Tensor gradient, const PackedBatch& batch,
                                   std::vector<BlockPass> passes) {
  const int lowest_layer = std::max(0, lowest_trained_unit() - 1);
  for (int layer = num_layers() - 1; layer >= lowest_layer; --layer) {
    const int unit = 1 + layer;
    acquire(unit);
    if (layer > lowest_layer) weights_.prefetch(unit - 1);
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

// A tied head has been lent the same buffer before, and has written to it. Without one the buffer
// is needed no earlier: it is as large as several blocks'.
void Engine::embed_backward(const at::Tensor& gradient, const at::Tensor& tokens) {
  lend_gradients(0);
  decoder_.embed_backward(gradient, tokens);
  reduce(0);
}

// A sequence that begins is a document of its own; a prompt comes before it.
at::Tensor Engine::extend(const at::Tensor& tokens, const at::Tensor& positions,
                          std::vector<KeyValueCache>& caches) {
  acquire_adapter();
  const PackedBatch batch{tokens, positions, at::full_like(tokens, kNoTarget), {0, tokens.size(0)}};
  const bool begins = caches.front().is_empty();
  const int64_t num_before = has_prompt() && !begins ? adapter_->prompt.shape()[0] : 0;
  const at::Tensor places = begins ? after_prompt(batch).positions : positions.add(num_before);
  at::Tensor hidden = begins ? embed(batch) : embed(tokens);
  for (int layer = 0; layer < num_layers(); ++layer) {
    acquire(1 + layer);
    hidden = decoder_.block_cached(layer, hidden, places, caches[static_cast<size_t>(layer)]);
    release(1 + layer);
  }
  acquire_head();
  const at::Tensor last = hidden.narrow(0, hidden.size(0) - 1, 1);
  at::Tensor logits = decoder_.logits(last).reshape({-1});
  release_head();
  release_adapter();
  return logits;
}

}  // namespace temper
