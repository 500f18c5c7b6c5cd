// SPDX-License-Identifier: Apache-2.0
#include "model/block.h"

#include <ATen/ATen.h>

#include <string>

#include "core/concat.h"
#include "model/ops/swiglu.h"

namespace temper {
namespace {

// Finds the weights of one block by their names.
struct BlockWeights {
  const UnitLayout& unit;
  const std::shared_ptr<const UnitBuffers>& buffers;
  std::string prefix;

  Weight vector(const std::string& name, int64_t size) const {
    const TensorSlot* slot = unit.find(prefix + name);
    return slot == nullptr ? Weight() : Weight(buffers, slot->offset, {size});
  }

  // `module` and those after it that make up `out` rows with it.
  LinearWeights linear(const std::string& module, int64_t out, int64_t in) const {
    const int64_t offset = unit.find(prefix + module + ".weight")->offset;
    return {Weight(buffers, offset, {out, in}), vector(module + ".bias", out), {}};
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

Block::Block(const ModelConfig& config, int64_t layer, const UnitLayout& unit,
             const std::shared_ptr<const UnitBuffers>& buffers)
    : heads_{config.num_heads, config.num_key_value_heads, config.head_dim},
      window_(config.windows[static_cast<size_t>(layer)]),
      epsilon_(config.norm_epsilon) {
  const BlockWeights weights{unit, buffers, concat("model.layers.", layer, ".")};
  const int64_t hidden = config.hidden_size, inner = config.intermediate_size;
  attention_norm_ = weights.vector("input_layernorm.weight", hidden);
  qkv_ = weights.linear("self_attn.q_proj", heads_.columns(), hidden);
  head_norms_ = {weights.vector("self_attn.q_norm.weight", config.head_dim),
                 weights.vector("self_attn.k_norm.weight", config.head_dim)};
  output_ = weights.linear("self_attn.o_proj", hidden, heads_.query_columns());
  mlp_norm_ = weights.vector("post_attention_layernorm.weight", hidden);
  gate_up_ = weights.linear("mlp.gate_proj", 2 * inner, hidden);
  down_ = weights.linear("mlp.down_proj", hidden, inner);
}

void Block::attach(const BlockAddition& addition) {
  qkv_.low_rank = addition.queries_keys_values;
  output_.low_rank = addition.output;
  gate_up_.low_rank = addition.gate_up;
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
                          const std::vector<int64_t>& document_begins) const {
  const at::Tensor qkv = queries_keys_values(hidden, angles);
  const at::Tensor attended = attend(qkv, document_begins);
  return add_mlp(add_sublayer(hidden, attended, output_, after_attention_));
}

at::Tensor Block::forward_cached(const at::Tensor& hidden, const RotaryAngles& angles,
                                 KeyValueCache& cache) const {
  const at::Tensor qkv = queries_keys_values(hidden, angles);
  const auto part = [&](int64_t first_column, int64_t num_heads) {
    return qkv.narrow(1, first_column, num_heads * heads_.head_dim)
        .unflatten(1, {num_heads, heads_.head_dim});
  };
  const bool begins = cache.is_empty();
  if (prefix_.is_defined() && begins) begin_with_prefix(cache, qkv.scalar_type());
  cache.append(part(heads_.first_key_column(), heads_.num_key_value_heads),
               part(heads_.first_value_column(), heads_.num_key_value_heads));
  const at::Tensor attended = begins ? attend(qkv, {0, qkv.size(0)})
                                     : attention_over_cache(part(0, heads_.num_heads), cache.keys(),
                                                            cache.values(), window_);
  return add_mlp(add_sublayer(hidden, attended, output_, after_attention_));
}

at::Tensor Block::attend(const at::Tensor& qkv, const std::vector<int64_t>& document_begins) const {
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
  at::Tensor qkv = linear(recomputed(normed), qkv_);
  if (head_norms_.queries.is_defined()) qkv = head_norm(qkv, heads_, head_norms_, epsilon_);
  return rotate(qkv, angles, heads_);
}

at::Tensor Block::add_mlp(const at::Tensor& hidden) const {
  const auto normed = [=, this] { return rms_norm(hidden, mlp_norm_, epsilon_); };
  const at::Tensor gate_up = linear(recomputed(normed), gate_up_);
  return add_sublayer(hidden, recomputed([=] { return swiglu(gate_up); }), down_, after_mlp_);
}

}  // namespace temper
