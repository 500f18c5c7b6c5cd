// SPDX-License-Identifier: Apache-2.0
#include "model/block.h"

#include <ATen/ATen.h>

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/concat.h"
#include "model/family.h"
#include "model/linear_modules.h"
#include "model/ops/expert_rows.h"
#include "model/tensor_names.h"

namespace temper {
namespace {

// The weights of two modules as those of one, which lies where both lie end to end.
std::optional<LinearWeights> joined(const LinearWeights& a, const LinearWeights& b) {
  const bool has_bias = a.bias.is_defined();
  const bool is_adjacent = !a.matrix.is_transposed() && b.matrix.follows(a.matrix) &&
                           (!has_bias || b.bias.follows(a.bias));
  if (!is_adjacent || has_bias != b.bias.is_defined()) return std::nullopt;
  const int64_t out = a.matrix.shape()[0] + b.matrix.shape()[0];
  return LinearWeights{a.matrix.reshaped({out, a.matrix.shape()[1]}),
                       has_bias ? a.bias.reshaped({out}) : Weight(),
                       {}};
}

// Finds the weights of one block.
struct BlockWeights {
  std::span<const PlacedUnit> units;
  std::string prefix;
  std::vector<LinearModule> modules;

  Weight find(const std::string& name) const { return find_weight(units, prefix + name); }

  // Those of a product, or of one of an expert's.
  SideBySide side_by_side(Product product, int64_t expert = LinearModule::kNoExpert) const {
    SideBySide all;
    for (const LinearModule& module : modules) {
      if (module.product != product || module.expert != expert) continue;
      const Weight matrix = find(module.name + ".weight");
      const LinearWeights next{
          module.is_transposed ? matrix.transposed() : matrix, find(module.name + ".bias"), {}};
      const auto both = all.empty() ? std::nullopt : joined(all.back(), next);
      if (both) {
        all.back() = *both;
      } else {
        all.push_back(next);
      }
    }
    return all;
  }
};

}  // namespace

Weight find_weight(std::span<const PlacedUnit> units, const std::string& name) {
  for (const PlacedUnit& unit : units) {
    const TensorSlot* slot = unit.layout.find(name);
    if (slot != nullptr) return {unit.buffers, slot->offset, slot->shape};
  }
  return {};
}

NormKind norm_kind(const ModelConfig& config) {
  NormKind kind = family_of(config.model_type).norm;
  kind.epsilon = config.norm_epsilon;
  return kind;
}

NormWeights find_norm(std::span<const PlacedUnit> units, const NormKind& kind,
                      const std::string& module) {
  if (!kind.has_scale) return {.scale = {}, .bias = {}, .is_without = true};
  return {find_weight(units, module + ".weight"), find_weight(units, module + ".bias")};
}

namespace {

// A matrix of an expert: its own, or its part of all of them.
std::vector<ExpertWeights> find_experts(const BlockWeights& weights, const ModelConfig& config) {
  const Family::Experts& family = family_of(config.model_type).experts;
  const ExpertNames& names = family.names;
  const auto part = [&](std::string_view tensor, int64_t expert) {
    return tensor.empty() ? Weight() : weights.find(std::string(tensor)).part(expert);
  };
  const auto matrix = [&](std::string_view tensor, int64_t expert) {
    const Weight own = part(tensor, expert);
    return family.is_transposed ? own.transposed() : own;
  };
  std::vector<ExpertWeights> experts;
  for (int64_t expert = 0; expert < config.experts.count; ++expert) {
    if (names.all_gate_up.empty()) {
      experts.push_back({weights.side_by_side(Product::kGateUp, expert),
                         weights.side_by_side(Product::kDown, expert).front(),
                         {}});
    } else {
      experts.push_back(
          {{{matrix(names.all_gate_up, expert), part(names.all_gate_up_bias, expert), {}}},
           {matrix(names.all_down, expert), {}, {}},
           part(names.all_down_bias, expert)});
    }
  }
  return experts;
}

RouterRule router_rule(const ModelConfig& config, int64_t layer) {
  const ExpertOptions& options = config.experts;
  RouterRule rule{.num_chosen = options.num_chosen,
                  .scores = family_of(config.model_type).experts.scores,
                  .renormalises = options.renormalises,
                  .num_groups = options.num_groups,
                  .chosen_groups = options.chosen_groups,
                  .scale = options.weight_scale};
  if (!options.corrections.empty())
    rule.correction = options.corrections[static_cast<size_t>(layer)];
  return rule;
}

}  // namespace

Block::Block(const ModelConfig& config, int64_t layer, std::span<const PlacedUnit> units,
             std::shared_ptr<BalanceLoss> balance, std::shared_ptr<const ExpertLender> lender)
    : heads_{config.num_heads,       config.num_key_value_heads, config.head_dim,
             config.attention_scale, config.attention_softcap,   {}},
      window_(config.windows[static_cast<size_t>(layer)]),
      norm_(norm_kind(config)),
      qkv_bound_(config.qkv_bound),
      residual_(config.residual),
      residual_scale_(config.residual_scale) {
  const Family& family = family_of(config.model_type);
  norms_rotated_heads_ = family.query_key_norm == Family::QueryKeyNorm::kEachHeadRotated;
  is_grouped_ = family.is_grouped;
  activation_ = {config.activation, family.is_gated()};
  const std::string block = block_name(config, layer) + ".";
  const BlockNames names = block_names(config);
  const BlockWeights weights{units, block, linear_modules(config, layer)};
  const auto norm = [&](std::string_view name) {
    return name.empty() ? NormWeights() : find_norm(units, norm_, concat(block, name));
  };
  if (!names.sinks.empty()) heads_.sinks = weights.find(std::string(names.sinks));
  attention_norm_ = norm(names.attention_norm);
  qkv_ = weights.side_by_side(Product::kQueriesKeysValues);
  head_norms_ = {norm(names.query_norm).scale, norm(names.key_norm).scale};
  attention_end_.output = weights.side_by_side(Product::kOutput).front();
  attention_end_.norm = norm(names.after_attention_norm);
  mlp_norm_ = norm(names.mlp_norm);
  gate_up_ = weights.side_by_side(Product::kGateUp);
  if (!gate_up_.empty()) mlp_end_.output = weights.side_by_side(Product::kDown).front();
  mlp_end_.norm = norm(names.after_mlp_norm);
  if (!config.has_experts(layer)) return;
  std::vector<Range> groups = expert_groups(config);
  if (groups.empty()) groups = {{0, config.experts.count}};  // In the block's own unit.
  MlpActivation activation = activation_;
  if (config.experts.bound > 0.0) {
    activation = {ActivationFunction::kQuickGelu, true, config.experts.bound};
  }
  const ExpertNames& expert_names = family.experts.names;
  experts_ = {.rule = router_rule(config, layer),
              .load = {std::move(balance), layer},
              .router = {weights.find(concat(expert_names.router, ".weight")),
                         weights.find(concat(expert_names.router, ".bias")),
                         {}},
              .all = {find_experts(weights, config), groups, activation, layer, std::move(lender)},
              .shared_gate = {weights.find(concat(expert_names.shared_gate, ".weight")), {}, {}}};
}

void Block::attach(const BlockAddition& addition) {
  qkv_.front().low_rank = addition.queries_keys_values;
  attention_end_.output.low_rank = addition.output;
  if (!gate_up_.empty()) gate_up_.front().low_rank = addition.gate_up;
  mlp_end_.output.low_rank = addition.down;
  for (size_t expert = 0; expert < addition.experts.size(); ++expert) {
    experts_->all.weights[expert].gate_up.front().low_rank = addition.experts[expert].gate_up;
    experts_->all.weights[expert].down.low_rank = addition.experts[expert].down;
  }
  prefix_ = addition.prefix;
  attention_end_.network = addition.after_attention;
  mlp_end_.network = addition.after_mlp;
  const auto replace = [](Weight& own, const Weight& other) {
    if (other.is_defined()) own = other;
  };
  replace(attention_norm_.scale, addition.attention_norm);
  replace(attention_end_.norm.scale, addition.after_attention_norm);
  replace(head_norms_.queries, addition.query_norm);
  replace(head_norms_.keys, addition.key_norm);
  replace(mlp_norm_.scale, addition.mlp_norm);
  replace(mlp_end_.norm.scale, addition.after_mlp_norm);
}

at::Tensor Block::forward(const at::Tensor& hidden, const RotaryAngles& angles,
                          const PackedBatch& batch) const {
  const Activation input = normed(hidden, attention_norm_);
  const at::Tensor attended = attend(queries_keys_values(input, angles), batch);
  return add_sublayers(hidden, input, attended);
}

at::Tensor Block::forward_cached(const at::Tensor& hidden, const RotaryAngles& angles,
                                 const std::vector<int64_t>& document_begins,
                                 std::span<KeyValueCache* const> caches) const {
  const Activation input = normed(hidden, attention_norm_);
  const at::Tensor qkv = queries_keys_values(input, angles);
  const at::Tensor keys = columns(qkv, heads_.first_key_column(), heads_.num_key_value_heads);
  const at::Tensor values = columns(qkv, heads_.first_value_column(), heads_.num_key_value_heads);
  const bool begins = caches.front()->is_empty();
  std::vector<CachedSequence> sequences;
  for (size_t i = 0; i < caches.size(); ++i) {
    const Range rows{document_begins[i], document_begins[i + 1]};
    if (prefix_.is_defined() && begins) begin_with_prefix(*caches[i], qkv.scalar_type());
    caches[i]->append(keys.narrow(0, rows.begin, rows.size()),
                      values.narrow(0, rows.begin, rows.size()));
    if (!begins) sequences.push_back({rows, caches[i]->keys(), caches[i]->values()});
  }
  const at::Tensor attended =
      begins ? attend_within(qkv, document_begins)
             : attention_over_caches(columns(qkv, 0, heads_.num_heads), sequences, heads_, window_);
  return add_sublayers(hidden, input, attended);
}

// Some heads of a joint projection. Returns [T, num_heads, head_dim].
at::Tensor Block::columns(const at::Tensor& qkv, int64_t first, int64_t num_heads) const {
  return qkv.narrow(1, first, num_heads * heads_.head_dim)
      .unflatten(1, {num_heads, heads_.head_dim});
}

at::Tensor Block::attend(const at::Tensor& qkv, const PackedBatch& batch) const {
  if (!batch.branches) return attend_within(qkv, batch.document_begins);
  const Branches& branches = *batch.branches;
  return branches.together(attend_within(branches.apart(qkv), branches.document_begins()));
}

at::Tensor Block::attend_within(const at::Tensor& qkv,
                                const std::vector<int64_t>& document_begins) const {
  const AttentionMask mask{document_begins, window_};
  return prefix_.is_defined() ? attention_after_prefix(qkv, heads_, mask, prefix_)
                              : attention(qkv, heads_, mask);
}

void Block::begin_with_prefix(KeyValueCache& cache, at::ScalarType dtype) const {
  const at::Tensor both = prefix_.keys_values(heads_, dtype)
                              .unflatten(1, {2, heads_.num_key_value_heads, heads_.head_dim});
  cache.append(both.select(1, 0), both.select(1, 1));
}

Activation Block::normed(const at::Tensor& hidden, const NormWeights& weights) const {
  if (!weights.is_defined()) return {hidden};
  return recomputed([hidden, weights, kind = norm_] { return norm_rows(hidden, weights, kind); });
}

at::Tensor Block::queries_keys_values(const Activation& input, const RotaryAngles& angles) const {
  const auto with_norms = [&](const at::Tensor& qkv) {
    return head_norms_.queries.is_defined() ? norm_heads(qkv, heads_, head_norms_, norm_) : qkv;
  };
  at::Tensor qkv = side_by_side(input, qkv_);
  if (is_grouped_) qkv = from_groups(qkv, heads_);
  if (qkv_bound_ > 0.0) qkv = at::clamp(qkv, -qkv_bound_, qkv_bound_);
  if (norms_rotated_heads_) return with_norms(rotate(qkv, angles, heads_));
  return rotate(with_norms(qkv), angles, heads_);
}

at::Tensor Block::add_sublayers(const at::Tensor& hidden, const Activation& input,
                                const at::Tensor& attended) const {
  const at::Tensor sum = add_sublayer(hidden, attended, attention_end_);
  const at::Tensor& read = residual_ == Residual::kSequential ? sum : hidden;
  const bool is_shared = residual_ == Residual::kParallel;
  const Activation mlp_input = is_shared ? input : normed(read, mlp_norm_);
  if (experts_) return add_output(sum, mix(mlp_input), mlp_end_);
  return add_sublayer(sum, mlp_inner(mlp_input), mlp_end_);
}

// What the MLP's last product reads.
Activation Block::mlp_inner(const Activation& input) const {
  const at::Tensor gate_up = side_by_side(input, gate_up_);
  return recomputed([gate_up, kind = activation_] { return activate_mlp(gate_up, kind); });
}

// What experts make of each token, and what all tokens go through beside them.
at::Tensor Block::mix(const Activation& input) const {
  at::Tensor shared;
  if (!gate_up_.empty()) {
    shared = linear(mlp_inner(input), mlp_end_.output);
    const LinearWeights& gate = experts_->shared_gate;
    if (gate.matrix.is_defined()) shared = gate_rows(shared, linear(input, gate));
  }
  const RouterRule& rule = experts_->rule;
  const Routing routing = route(router_logits(input, experts_->router, rule), rule, experts_->load);
  return mix_experts(shared, input, routing, experts_->all);
}

// Where nothing is done with it, the product adds onto the residual.
at::Tensor Block::add_sublayer(const at::Tensor& residual, const Activation& x,
                               const SublayerEnd& end) const {
  const bool is_read = end.network.is_defined() && !end.network.reads_sum;
  const bool is_plain = !end.norm.is_defined() && residual_scale_ == 1.0;
  if (is_read || !is_plain) return add_output(residual, linear(x, end.output), end);
  const at::Tensor sum = linear_onto(residual, x, end.output);
  return end.network.is_defined() ? bottleneck(sum, end.network) : sum;
}

at::Tensor Block::add_output(const at::Tensor& residual, const at::Tensor& made,
                             const SublayerEnd& end) const {
  const at::Tensor y = end.norm.is_defined() ? norm_rows(made, end.norm, norm_) : made;
  if (end.network.is_defined() && !end.network.reads_sum) {
    return bottleneck_onto(residual, residual_scale_ == 1.0 ? y : y * residual_scale_, end.network);
  }
  const at::Tensor sum = at::add(residual, y, residual_scale_);
  return end.network.is_defined() ? bottleneck(sum, end.network) : sum;
}

}  // namespace temper
