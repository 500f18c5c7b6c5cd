// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "model/adapter/adapter.h"
#include "model/key_value_cache.h"
#include "model/model_config.h"
#include "model/ops/attention.h"
#include "model/ops/linear.h"
#include "model/ops/mixture.h"
#include "model/ops/mlp_activation.h"
#include "model/ops/norm.h"
#include "model/ops/rotary.h"
#include "model/ops/router.h"
#include "model/packed_batch.h"
#include "model/unit_layout.h"
#include "model/weight.h"

namespace temper {

/// A unit's tensors, and where they are while it computes.
struct PlacedUnit {
  const UnitLayout& layout;
  std::shared_ptr<const UnitBuffers> buffers;
};

/// The weight of that name in one of the units; undefined if none has it.
Weight find_weight(std::span<const PlacedUnit> units, const std::string& name);

/// How a model norms its rows, and the weights of one of its norms by its module's name.
NormKind norm_kind(const ModelConfig& config);
NormWeights find_norm(std::span<const PlacedUnit> units, const NormKind& kind,
                      const std::string& module);

/// One transformer block: x + attention(norm(x)), then that + mlp(norm(that)). Some families norm
/// what a sublayer adds, too, or that alone; in some the MLP reads what attention reads, or a norm
/// of its own of that.
///
/// With autograd on, an input that wants a gradient leads to a graph whose backward pass writes the
/// gradients of the block's weights.
class Block {
 public:
  /// `units` have all of its weights. Where it has experts, it notes in `balance` how they are
  /// chosen, and asks `lender` for them.
  Block(const ModelConfig& config, int64_t layer, std::span<const PlacedUnit> units,
        std::shared_ptr<BalanceLoss> balance, std::shared_ptr<const ExpertLender> lender);

  /// From now on the block computes with what a method adds to it.
  void attach(const BlockAddition& addition);

  /// Shapes: hidden [T, hidden_size]; returns the same.
  at::Tensor forward(const at::Tensor& hidden, const RotaryAngles& angles,
                     const PackedBatch& batch) const;

  /// The same for the next tokens of sequences, each a document, which all begin, or all go on.
  /// Appends to the caches. Shapes: caches [document].
  at::Tensor forward_cached(const at::Tensor& hidden, const RotaryAngles& angles,
                            const std::vector<int64_t>& document_begins,
                            std::span<KeyValueCache* const> caches) const;

 private:
  // The last product of a sublayer, and what is done with it before it goes onto the residual.
  struct SublayerEnd {
    LinearWeights output;
    NormWeights norm;           // Undefined where it is not normed.
    BottleneckWeights network;  // Undefined where there is none.
  };

  // Experts in the place of an MLP, beside what all tokens go through: `gate_up_` and `mlp_end_`,
  // where there is that.
  struct Experts {
    RouterRule rule;
    LoadPlace load;
    LinearWeights router;
    ExpertSet all;
    LinearWeights shared_gate;  // Undefined where what is shared has none.
  };

  at::Tensor attend(const at::Tensor& qkv, const PackedBatch& batch) const;
  at::Tensor attend_within(const at::Tensor& qkv,
                           const std::vector<int64_t>& document_begins) const;
  at::Tensor columns(const at::Tensor& qkv, int64_t first, int64_t num_heads) const;
  Activation normed(const at::Tensor& hidden, const NormWeights& weights) const;
  at::Tensor queries_keys_values(const Activation& input, const RotaryAngles& angles) const;
  void begin_with_prefix(KeyValueCache& cache, at::ScalarType dtype) const;
  at::Tensor add_sublayers(const at::Tensor& hidden, const Activation& input,
                           const at::Tensor& attended) const;
  Activation mlp_inner(const Activation& input) const;
  at::Tensor mix(const Activation& input) const;
  at::Tensor add_sublayer(const at::Tensor& residual, const Activation& x,
                          const SublayerEnd& end) const;
  at::Tensor add_output(const at::Tensor& residual, const at::Tensor& made,
                        const SublayerEnd& end) const;

  Heads heads_;
  int64_t window_;
  NormKind norm_;
  bool norms_rotated_heads_;  // Else before the rotation.
  bool is_grouped_;           // The projection's columns are those of groups.
  double qkv_bound_;          // 0: none.
  Residual residual_;
  double residual_scale_;
  MlpActivation activation_;
  NormWeights attention_norm_;  // Undefined where attention reads the block's input itself.
  SideBySide qkv_;
  HeadNormWeights head_norms_;  // Undefined where heads are not normed.
  SublayerEnd attention_end_;
  NormWeights mlp_norm_;  // Likewise.
  SideBySide gate_up_;
  SublayerEnd mlp_end_;
  std::optional<Experts> experts_;
  PrefixWeights prefix_;  // Undefined where there is none.
};

}  // namespace temper
