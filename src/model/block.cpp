// SPDX-License-Identifier: Apache-2.0
#include "model/block.h"

#include <ATen/ATen.h>

#include <optional>
#include <string>

#include "core/concat.h"
#include "model/ops/swiglu.h"

namespace temper {
namespace {

// The weights of two modules as those of one, which lies where both lie end to end.
std::optional<LinearWeights> joined(const LinearWeights& a, const LinearWeights& b) {
  const bool has_bias = a.bias.is_defined();
  const bool is_adjacent = b.matrix.follows(a.matrix) && (!has_bias || b.bias.follows(a.bias));
  if (!is_adjacent || has_bias != b.bias.is_defined()) return std::nullopt;
  const int64_t out = a.matrix.shape()[0] + b.matrix.shape()[0];
  return LinearWeights{a.matrix.reshaped({out, a.matrix.shape()[1]}),
                       has_bias ? a.bias.reshaped({out}) : Weight(),
                       {}};
}

// Finds the weights of one block by their names.
struct BlockWeights {
  std::span<const PlacedUnit> units;
  std::string prefix;

  Weight find(const std::string& name) const { return find_weight(units, prefix + name); }

  LinearWeights linear(const std::string& module) const {
    return {find(module + ".weight"), find(module + ".bias"), {}};
  }

  SideBySide side_by_side(const std::vector<std::string>& modules) const {
    SideBySide all;
    for (const std::string& module : modules) {
      const LinearWeights next = linear(module);
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

// The end of a sublayer: its last product goes onto the residual, by way of a bottleneck if there
// is one.
at::Tensor add_sublayer(const at::Tensor& residual, const Activation& x,
                        const LinearWeights& weights, const BottleneckWeights& network) {
  if (network.is_defined() && !network.reads_sum) {
    return bottleneck_onto(residual, linear(x, weights), network);
  }
  const at::Tensor sum = linear_onto(residual, x, weights);
  return network.is_defined() ? bottleneck(sum, network) : sum;
}

}  // namespace

Weight find_weight(std::span<const PlacedUnit> units, const std::string& name) {
  for (const PlacedUnit& unit : units) {
    const TensorSlot* slot = unit.layout.find(name);
    if (slot != nullptr) return {unit.buffers, slot->offset, slot->shape};
  }
  return {};
}

Block::Block(const ModelConfig& config, int64_t layer, std::span<const PlacedUnit> units)
    : heads_{config.num_heads, config.num_key_value_heads, config.head_dim},
      window_(config.windows[static_cast<size_t>(layer)]),
      epsilon_(config.norm_epsilon) {
  const BlockWeights weights{units, concat("model.layers.", layer, ".")};
  attention_norm_ = weights.find("input_layernorm.weight");
  qkv_ = weights.side_by_side({"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"});
  head_norms_ = {weights.find("self_attn.q_norm.weight"), weights.find("self_attn.k_norm.weight")};
  output_ = weights.linear("self_attn.o_proj");
  mlp_norm_ = weights.find("post_attention_layernorm.weight");
  gate_up_ = weights.side_by_side({"mlp.gate_proj", "mlp.up_proj"});
  down_ = weights.linear("mlp.down_proj");
}

void Block::attach(const BlockAddition& addition) {
  qkv_.front().low_rank = addition.queries_keys_values;
  output_.low_rank = addition.output;
  gate_up_.front().low_rank = addition.gate_up;
  down_.low_rank = addition.down;
  prefix_ = addition.prefix;
  after_attention_ = addition.after_attention;
  after_mlp_ = addition.after_mlp;
  const auto replace = [](Weight& own, const Weight& other) {
    if (other.is_defined()) own = other;
  };
  replace(attention_norm_, addition.attention_norm);
  replace(head_norms_.queries, addition.query_norm);
  replace(head_norms_.keys, addition.key_norm);
  replace(mlp_norm_, addition.mlp_norm);
}

at::Tensor Block::forward(const at::Tensor& hidden, const RotaryAngles& angles,
                          const PackedBatch& batch) const {
  const at::Tensor qkv = queries_keys_values(hidden, angles);
  const at::Tensor attended = attend(qkv, batch);
  return add_mlp(add_sublayer(hidden, attended, output_, after_attention_));
}

at::Tensor Block::forward_cached(const at::Tensor& hidden, const RotaryAngles& angles,
                                 const std::vector<int64_t>& document_begins,
                                 std::span<KeyValueCache* const> caches) const {
  const at::Tensor qkv = queries_keys_values(hidden, angles);
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
             : attention_over_caches(columns(qkv, 0, heads_.num_heads), sequences, window_);
  return add_mlp(add_sublayer(hidden, attended, output_, after_attention_));
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

at::Tensor Block::queries_keys_values(const at::Tensor& hidden, const RotaryAngles& angles) const {
  const auto normed = [=, this] { return rms_norm(hidden, attention_norm_, epsilon_); };
  at::Tensor qkv = side_by_side(recomputed(normed), qkv_);
  if (head_norms_.queries.is_defined()) qkv = head_norm(qkv, heads_, head_norms_, epsilon_);
  return rotate(qkv, angles, heads_);
}

at::Tensor Block::add_mlp(const at::Tensor& hidden) const {
  const auto normed = [=, this] { return rms_norm(hidden, mlp_norm_, epsilon_); };
  const at::Tensor gate_up = side_by_side(recomputed(normed), gate_up_);
  return add_sublayer(hidden, recomputed([=] { return swiglu(gate_up); }), down_, after_mlp_);
}

}  // namespace temper
