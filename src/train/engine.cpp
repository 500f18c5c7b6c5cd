// SPDX-License-Identifier: Apache-2.0
#include "train/engine.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "comm/collective_ring.h"
#include "core/phase_log.h"
#include "core/targets.h"
#include "model/on_device.h"

namespace temper {
namespace {

constexpr int kEmbedding = 0;  // The decoder's first unit.

// The facts of a batch once each of its documents begins with `count` more rows.
BatchFacts after_rows(const BatchFacts& facts, const std::vector<int64_t>& document_begins,
                      int64_t count) {
  BatchFacts after{facts.largest_position + count};
  size_t document = 0;
  for (const int64_t row : facts.target_rows) {
    while (document_begins[document + 1] <= row) ++document;
    after.target_rows.push_back(row + static_cast<int64_t>(document + 1) * count);
  }
  return after;
}

}  // namespace

// A tied head computes with the embedding's unit, too.
Engine::Engine(Decoder& decoder, UnitStore& store, Activations activations, const Adapter* adapter)
    : decoder_(decoder),
      store_(store),
      experts_(decoder, store),
      activations_(activations),
      adapter_(adapter),
      needs_(static_cast<size_t>(decoder.num_users())),
      buffers_(static_cast<size_t>(store.num_units())),
      first_user_(buffers_.size(), kNobody),
      lowest_trained_(decoder.num_users()),
      last_(decoder.num_users() - 1) {
  const auto num_own = static_cast<int>(decoder_.units().size());
  for (int unit = 0; unit < num_own; ++unit) {
    const int user = decoder_.user_of(unit);
    if (store_.is_trained(unit)) lowest_trained_ = std::min(lowest_trained_, user);
    if (ExpertUnits::has(decoder_.units()[static_cast<size_t>(unit)])) continue;
    need(user, unit, decoder_.buffers(unit));
  }
  if (decoder_.config().has_tied_head) need(head(), kEmbedding, decoder_.buffers(kEmbedding));
  if (adapter_ == nullptr) return;
  decoder_.attach(*adapter_);
  int unit = num_own;
  for (const AdapterUnit& own : adapter_->units) {
    for (const int user : own.users) need(user, unit, *own.buffers);
    ++unit;
  }
}

// Users come in ascending order.
void Engine::need(int user, int unit, UnitBuffers& buffers) {
  needs_[static_cast<size_t>(user)].push_back(unit);
  buffers_[static_cast<size_t>(unit)] = &buffers;
  int& first = first_user_[static_cast<size_t>(unit)];
  if (first == kNobody) first = user;
  if (store_.is_trained(unit)) lowest_trained_ = std::min(lowest_trained_, user);
}

// Where the flat buffers of what a unit computes with come from and go to.

void Engine::prefetch(int user) {
  if (user == kNobody) return;
  for (const int unit : needs_[static_cast<size_t>(user)]) store_.prefetch(unit);
}

void Engine::acquire(int user) {
  const Needs& needs = needs_[static_cast<size_t>(user)];
  for (const int unit : needs) {
    UnitBuffers& buffers = *buffers_[static_cast<size_t>(unit)];
    buffers.weights = store_.gather(unit);
    buffers.version = {store_.state(unit).version};
  }
  for (const int unit : needs) {
    if (unit < decoder_.num_users()) decoder_.put_token_rows(unit);
  }
}

// What the next one needs, too, stays.
void Engine::release(int user, int next) {
  static const Needs kNothing;
  const Needs& kept = next == kNobody ? kNothing : needs_[static_cast<size_t>(next)];
  for (const int unit : needs_[static_cast<size_t>(user)]) {
    if (std::ranges::find(kept, unit) != kept.end()) continue;
    buffers_[static_cast<size_t>(unit)]->weights.reset();
    store_.release(unit);
  }
}

void Engine::lend_gradients(int user) {
  for (const int unit : needs_[static_cast<size_t>(user)]) {
    if (!store_.is_trained(unit)) continue;
    buffers_[static_cast<size_t>(unit)]->gradients = store_.gradient_buffer(unit);
  }
}

void Engine::reduce(int user) {
  for (const int unit : needs_[static_cast<size_t>(user)]) {
    const auto index = static_cast<size_t>(unit);
    if (!store_.is_trained(unit) || first_user_[index] != user) continue;
    buffers_[index]->gradients.reset();
    store_.reduce(unit);
  }
}

// The embedding's backward pass computes with no weights.
int Engine::next_backward(int user) const {
  return user > std::max(1, lowest_trained_) ? user - 1 : kNobody;
}

// The schedule.

void Engine::keep_near(Engine& other, const KlOptions& kl) {
  other_ = &other;
  other.last_ = num_layers();
  kl_ = kl;
}

MicroBatchLoss Engine::forward_backward(const PackedBatch& batch, int64_t number) {
  at::Tensor other_states;
  std::vector<BlockPass> passes;
  const PackedBatch whole = after_prompt(batch);
  at::Tensor hidden;
  {
    const Phase phase("forward");
    if (other_ != nullptr) other_states = other_->states_at_targets(batch);
    if (adapter_ != nullptr) adapter_->dropout->set_micro_batch(number);
    hidden = forward_blocks(embed(batch), whole, &passes);
  }
  const Phase phase("backward");
  HeadResult head = head_with_gradient(hidden, whole, std::move(other_states));
  hidden.reset();
  const at::Tensor gradient =
      backward_blocks(std::move(head.hidden_gradient), whole, std::move(passes));
  if (lowest_trained_ == kEmbedding) embed_backward(gradient, batch);
  if (adapter_ != nullptr) adapter_->dropout->set_micro_batch({});
  CollectiveRing::own().begin_idle();  // It lives: at stages 0 and 1 none may communicate.
  return {head.loss_sum, head.kl_sum, head.losses};
}

void Engine::join_forward() {
  experts_.set_direction(ExpertUnits::Direction::kForward);
  for (int user = kEmbedding; user < head(); ++user) {
    acquire(user);
    prefetch(next_forward(user));
    if (user != kEmbedding) experts_.join_forward(user - 1);
    release(user, next_forward(user));
  }
}

void Engine::join_forward_backward() {
  if (other_ != nullptr) other_->join_forward();
  join_forward();
  experts_.set_direction(ExpertUnits::Direction::kBackward);
  for (int user = head(); user >= std::max(1, lowest_trained_); --user) {
    const int next = next_backward(user);
    const bool has_other = user == head() && other_ != nullptr;
    acquire(user);
    if (has_other) other_->acquire(user);
    prefetch(next);
    lend_gradients(user);
    if (user != head()) join_experts_backward(user - 1);
    if (has_other) other_->release(user, kNobody);
    release(user, next);
    reduce(user);
  }
  if (lowest_trained_ == kEmbedding) {
    lend_gradients(kEmbedding);
    reduce(kEmbedding);
  }
  CollectiveRing::own().begin_idle();
}

// A block that is computed again asks for them twice.
void Engine::join_experts_backward(int layer) {
  if (activations_ == Activations::kRecomputed) experts_.join_forward(layer);
  experts_.join_backward(layer);
}

// What head_pass(hidden, targets) returns, without gradients.
template <typename HeadPass>
auto Engine::forward(const PackedBatch& batch, HeadPass head_pass) {
  const PackedBatch whole = after_prompt(batch);
  const at::Tensor hidden = forward_blocks(embed(batch), whole, nullptr);
  acquire(head());
  auto result = head_pass(hidden, HeadTargets(whole.targets, rows_with_target(whole)));
  release(head(), kNobody);
  CollectiveRing::own().begin_idle();
  return result;
}

TargetScores Engine::scores(const PackedBatch& batch) {
  return forward(batch, [&](const at::Tensor& hidden, const HeadTargets& targets) {
    return decoder_.head_scores(hidden, targets);
  });
}

void Engine::join_loss() {
  join_forward();
  acquire(head());
  release(head(), kNobody);
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
  PackedBatch whole{batch.tokens, insert(at::arange(count, options), batch.positions.add(count)),
                    insert(at::full({count}, kNoTarget, options), batch.targets),
                    rows.document_begins()};
  if (batch.branches) whole.branches = batch.branches->after(count);
  if (batch.facts) whole.facts = after_rows(*batch.facts, batch.document_begins, count);
  return whole;
}

at::Tensor Engine::embed(const PackedBatch& batch, Documents documents) {
  acquire(kEmbedding);
  prefetch(1);
  at::Tensor hidden = decoder_.embed(batch);
  if (has_prompt() && documents == Documents::kBegin) {
    const at::Tensor prompt = adapter_->prompt.value().to(hidden.scalar_type());
    hidden = prompt_rows(batch.document_begins).insert(prompt, hidden);
  }
  release(kEmbedding, 1);
  return hidden;
}

at::Tensor Engine::forward_blocks(at::Tensor hidden, const PackedBatch& batch,
                                  std::vector<BlockPass>* passes) {
  experts_.set_direction(ExpertUnits::Direction::kForward);
  for (int layer = 0; layer < num_layers(); ++layer) {
    const TracedBlock traced("block", layer);
    const int user = 1 + layer;
    acquire(user);
    prefetch(next_forward(user));
    if (passes == nullptr || user < lowest_trained_) {
      hidden = decoder_.block(layer, hidden, batch);
    } else if (activations_ == Activations::kRecomputed) {
      passes->push_back({hidden, {}});
      hidden = decoder_.block(layer, hidden, batch);
    } else {
      passes->push_back(decoder_.block_with_graph(layer, hidden, batch));
      hidden = passes->back().output.detach();
    }
    release(user, next_forward(user));
  }
  return hidden;
}

// Of a model that another one is kept near: what its head computes with in the other's place.
at::Tensor Engine::states_at_targets(const PackedBatch& batch) {
  const at::Tensor hidden = forward_blocks(embed(batch), batch, nullptr);
  return hidden.index_select(0, rows_with_target(batch));
}

HeadResult Engine::head_with_gradient(const at::Tensor& hidden, const PackedBatch& batch,
                                      at::Tensor other_states) {
  const TracedBlock traced("head", -1);
  const int next = next_backward(head());
  std::optional<OtherHead> other;
  acquire(head());
  if (other_ != nullptr) {
    other_->acquire(head());
    other.emplace(other_->decoder_.head_for_another(std::move(other_states), kl_));
  }
  prefetch(next);
  lend_gradients(head());
  HeadResult result = decoder_.head_loss_and_gradient(
      hidden, {batch.targets, rows_with_target(batch)}, other ? &*other : nullptr);
  if (other_ != nullptr) other_->release(head(), kNobody);
  release(head(), next);
  reduce(head());
  return result;
}

at::Tensor Engine::backward_blocks(at::Tensor gradient, const PackedBatch& batch,
                                   std::vector<BlockPass> passes) {
  experts_.set_direction(ExpertUnits::Direction::kBackward);
  for (int user = num_layers(); user >= std::max(1, lowest_trained_); --user) {
    const TracedBlock traced("block backward", user - 1);
    const int next = next_backward(user);
    acquire(user);
    prefetch(next);
    lend_gradients(user);
    BlockPass pass = std::move(passes.back());
    passes.pop_back();
    if (!pass.output.defined()) pass = decoder_.block_with_graph(user - 1, pass.input, batch);
    gradient = decoder_.block_backward(std::move(pass), gradient);
    release(user, next);
    reduce(user);
  }
  return gradient;
}

// A tied head has been lent the same buffer before, and has written to it. Without one the buffer
// is needed no earlier: it is as large as several blocks'.
void Engine::embed_backward(const at::Tensor& gradient, const PackedBatch& batch) {
  lend_gradients(kEmbedding);
  if (has_prompt()) {
    adapter_->prompt.gradient().copy_(prompt_rows(batch.document_begins).sum_virtual(gradient));
  } else {
    decoder_.embed_backward(gradient, batch);
  }
  reduce(kEmbedding);
}

// A prompt comes before each sequence that begins.
at::Tensor Engine::extend(const PackedBatch& batch, std::span<KeyValueCaches* const> caches,
                          std::span<const int64_t> num_logits) {
  const bool begins = caches.front()->front().is_empty();
  PackedBatch whole = batch;
  if (begins) {
    whole = after_prompt(batch);
  } else if (has_prompt()) {
    const int64_t count = adapter_->prompt.shape()[0];
    whole.positions = batch.positions.add(count);
    if (whole.facts) whole.facts->largest_position += count;
  }
  experts_.set_direction(ExpertUnits::Direction::kForward);
  at::Tensor hidden = embed(batch, begins ? Documents::kBegin : Documents::kGoOn);
  for (int layer = 0; layer < num_layers(); ++layer) {
    acquire(1 + layer);
    prefetch(2 + layer);
    hidden = decoder_.block_cached(layer, hidden, whole, caches);
    release(1 + layer, 2 + layer);
  }
  acquire(head());
  std::vector<int64_t> last;
  for (size_t i = 0; i < num_logits.size(); ++i) {
    const int64_t end = whole.document_begins[i + 1];
    for (int64_t row = end - num_logits[i]; row < end; ++row) last.push_back(row);
  }
  const at::Tensor rows = on_device(last, hidden.device());
  at::Tensor logits = decoder_.logits(hidden.index_select(0, rows));
  release(head(), kNobody);
  CollectiveRing::own().begin_idle();
  return logits;
}

}  // namespace temper
