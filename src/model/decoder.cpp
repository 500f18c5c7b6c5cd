// SPDX-License-Identifier: Apache-2.0
#include "model/decoder.h"

#include <ATen/ATen.h>

#include <utility>

#include "model/block.h"
#include "model/decoder_units.h"
#include "model/family.h"
#include "model/ops/backward.h"
#include "model/ops/embedding.h"
#include "model/ops/rotary.h"
#include "model/tensor_names.h"

namespace temper {

Decoder::Decoder(ModelConfig config, std::optional<DecoderUnits> units)
    : config_(std::move(config)) {
  validate(config_);
  units_ = units ? std::move(*units) : undivided(decoder_units(config_));
  for (size_t unit = 0; unit < units_.layouts.size(); ++unit) {
    buffers_.push_back(std::make_shared<UnitBuffers>());
  }
  balance_ = std::make_shared<BalanceLoss>(config_.num_layers, config_.experts.count);
  lender_ = std::make_shared<ExpertLender>();
  for (int64_t layer = 0; layer < config_.num_layers; ++layer) {
    blocks_.emplace_back(config_, layer, units_of(static_cast<int>(1 + layer)), balance_, lender_);
  }
  const std::vector<PlacedUnit> last = units_of(num_users() - 1);
  embedding_ = find_weight(units_of(0), embedding_weight(config_));
  learned_positions_ = find_weight(units_of(0), positions_name(config_) + ".weight");
  const Weight matrix =
      config_.has_tied_head ? embedding_ : find_weight(last, head_weight(config_));
  const NormKind kind = norm_kind(config_);
  head_ = std::make_unique<Head>(find_norm(last, kind, final_norm_name(config_)), kind, matrix,
                                 LogitRule{config_.logit_scale, config_.logit_softcap,
                                           find_weight(last, head_name(config_) + ".bias")});
  make_positions();
}

Decoder::~Decoder() = default;

void Decoder::make_positions() {
  rotary_ = std::make_unique<Rotary>(config_.rope, config_.head_dim);
  window_rotary_ = std::make_unique<Rotary>(config_.window_rope, config_.head_dim);
}

std::optional<bool> Decoder::choose_positions(int64_t longest_context) {
  std::optional<bool> is_long;
  for (RopeOptions* rope : {&config_.rope, &config_.window_rope}) {
    if (rope->scaling != RopeOptions::Scaling::kLongRope) continue;
    rope->is_long = longest_context > rope->original_max_positions;
    is_long = is_long.value_or(false) || rope->is_long;
  }
  make_positions();
  return is_long;
}

std::vector<PlacedUnit> Decoder::units_of(int user) const {
  std::vector<PlacedUnit> all;
  for (size_t unit = 0; unit < buffers_.size(); ++unit) {
    if (units_.users[unit] == user) all.push_back({units_.layouts[unit], buffers_[unit]});
  }
  return all;
}

void Decoder::attach(const Adapter& adapter) {
  for (size_t layer = 0; layer < blocks_.size(); ++layer) {
    blocks_[layer].attach(adapter.blocks[layer]);
  }
  const PrefixWeights& prefix = adapter.blocks.front().prefix;
  first_position_ = prefix.is_defined() ? prefix.count() : 0;
  if (adapter.embedding.is_defined()) embedding_ = adapter.embedding;
  embedding_rows_ = adapter.embedding_rows;
  head_rows_ = adapter.head_rows;
  head_->attach(adapter.final_norm, adapter.head, adapter.head_rows);
}

void Decoder::borrow_experts(ExpertLender lender) { *lender_ = std::move(lender); }

void Decoder::add_expert_choices(std::vector<int64_t>& choices) const {
  const auto num_experts = static_cast<size_t>(config_.experts.count);
  for (size_t layer = 0; layer < balance_->loads().size(); ++layer) {
    const std::vector<int64_t>& chosen = balance_->loads()[layer].chosen;
    for (size_t e = 0; e < chosen.size(); ++e) choices[layer * num_experts + e] += chosen[e];
  }
}

void Decoder::put_token_rows(int unit) const {
  if (unit == 0 && embedding_rows_.is_defined()) embedding_rows_.put_into(embedding_.value());
  const bool is_own_head = unit == num_users() - 1 && !config_.has_tied_head;
  if (is_own_head && head_rows_.is_defined()) head_rows_.put_into(head_->matrix().value());
}

RotaryAngles Decoder::angles(int layer, const PackedBatch& batch, at::ScalarType dtype) const {
  const LayerPositions kind = config_.positions_of(layer);
  if (kind == LayerPositions::kNone) return {};
  Rotary& rotary = kind == LayerPositions::kRope ? *rotary_ : *window_rotary_;
  return rotary.angles(places(batch.positions), largest_position(batch) + first_position_, dtype);
}

// Behind a prefix, they begin where it ends.
at::Tensor Decoder::places(const at::Tensor& positions) const {
  return first_position_ == 0 ? positions : positions.add(first_position_);
}

// Gemma's is a number of the compute dtype.
double Decoder::embedding_scale(at::ScalarType dtype) const {
  if (!family_of(config_.model_type).scales_embedding) return config_.embedding_scale;
  return at::scalar_tensor(config_.embedding_scale, dtype).item<double>();
}

at::Tensor Decoder::embed(const PackedBatch& batch) const {
  const at::NoGradGuard no_graph;
  at::Tensor rows =
      embedding_.value().index_select(0, batch.tokens).to(buffers_[0]->weights.scalar_type());
  if (config_.embedding_scale != 1.0) rows.mul_(embedding_scale(rows.scalar_type()));
  if (!learned_positions_.is_defined()) return rows;
  return rows.add_(learned_positions_.value().index_select(0, places(batch.positions)));
}

void Decoder::embed_backward(const at::Tensor& given, const PackedBatch& batch) const {
  const bool is_plain = config_.embedding_scale == 1.0;
  const at::Tensor gradient = is_plain ? given : given * embedding_scale(given.scalar_type());
  if (at::Tensor sums = embedding_.gradient(); sums.defined()) {
    if (!(embedding_ == head_->matrix())) sums.zero_();
    add_rows_by_token(sums, gradient.to(sums.scalar_type()), batch.tokens);
  }
  if (embedding_rows_.is_defined()) {
    if (!(embedding_rows_.rows == head_rows_.rows)) embedding_rows_.rows.gradient().zero_();
    embedding_rows_.add_embedding_gradient(gradient, batch.tokens);
  }
  if (!learned_positions_.is_defined()) return;
  if (at::Tensor sums = learned_positions_.gradient(); sums.defined()) {
    add_rows_by_token(sums.zero_(), given.to(sums.scalar_type()), places(batch.positions));
  }
}

at::Tensor Decoder::run_block(int layer, const at::Tensor& hidden, const PackedBatch& batch) const {
  return blocks_[static_cast<size_t>(layer)].forward(
      hidden, angles(layer, batch, hidden.scalar_type()), batch);
}

at::Tensor Decoder::block(int layer, const at::Tensor& hidden, const PackedBatch& batch) const {
  const at::NoGradGuard no_graph;
  return run_block(layer, hidden, batch);
}

BlockPass Decoder::block_with_graph(int layer, const at::Tensor& hidden,
                                    const PackedBatch& batch) const {
  const GraphPass pass(hidden,
                       [&](const at::Tensor& input) { return run_block(layer, input, batch); });
  return {pass.input(), pass.output()};
}

at::Tensor Decoder::block_backward(BlockPass pass, const at::Tensor& gradient) const {
  return GraphPass(std::move(pass.input), std::move(pass.output)).backward(gradient);
}

at::Tensor Decoder::block_cached(int layer, const at::Tensor& hidden, const PackedBatch& batch,
                                 std::span<KeyValueCaches* const> caches) const {
  const c10::InferenceMode no_graph;  // Nor what views keep for one: it takes time.
  const auto index = static_cast<size_t>(layer);
  std::vector<KeyValueCache*> own;
  for (KeyValueCaches* sequence : caches) own.push_back(&(*sequence)[index]);
  return blocks_[index].forward_cached(hidden, angles(layer, batch, hidden.scalar_type()),
                                       batch.document_begins, own);
}

HeadResult Decoder::head_loss(const at::Tensor& hidden, const HeadTargets& targets) const {
  return head_->loss(hidden, targets);
}

TargetScores Decoder::head_scores(const at::Tensor& hidden, const HeadTargets& targets) const {
  return head_->scores(hidden, targets);
}

HeadResult Decoder::head_loss_and_gradient(const at::Tensor& hidden, const HeadTargets& targets,
                                           const OtherHead* other) const {
  if (config_.experts.balance_factor > 0.0) {
    const auto num_targets = static_cast<double>(targets.rows.numel());
    balance_->set_worth(config_.experts.balance_factor * num_targets);
  }
  return head_->loss_and_gradient(hidden, targets, other);
}

at::Tensor Decoder::logits(const at::Tensor& hidden) const { return head_->logits(hidden); }

}  // namespace temper
