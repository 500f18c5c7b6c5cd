// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "model/adapter/adapter.h"
#include "model/model_config.h"
#include "model/ops/activation_function.h"

namespace temper {

struct BottleneckOptions {
  enum class Placement {
    kHoulsby,   ///< Behind attention and behind the MLP: AdapterHub's double_seq_bn.
    kPfeiffer,  ///< Behind the MLP, reading its sum with the residual: AdapterHub's seq_bn.
  };
  std::string name = "default";  ///< Of the adapter, in its files.
  Placement placement = Placement::kHoulsby;
  /// Networks are at most 64 times as wide as the hidden states.
  static constexpr double kLowestReduction = 1.0 / 64;

  double reduction_factor = 16.0;  ///< hidden_size is so many times the bottleneck's size.
  std::optional<ActivationFunction> activation = {};  ///< Empty: that of the placement's paper.

  bool is_houlsby() const { return placement == Placement::kHoulsby; }

  /// That which is set, or else AdapterHub's: swish for houlsby, relu for pfeiffer.
  ActivationFunction function() const;

  /// Numbers between the two products, at least one.
  int64_t size(const ModelConfig& config) const;

  friend bool operator==(const BottleneckOptions&, const BottleneckOptions&) = default;
};

/// Bottleneck adapters: a small network of two products behind sublayers of every block. The
/// weights begin as those of BERT: normal numbers of deviation 0.02, biases zero.
/// Source: Houlsby et al., arXiv:1902.00751; Pfeiffer et al., arXiv:2005.00247; adapters 1.3,
///   methods/bottleneck.py and methods/modeling.py (names, shapes, init, sums).
Adapter make_bottleneck(const BottleneckOptions& options, const ModelConfig& config);

/// Whether the two have the same tensors, used alike.
bool is_same_bottleneck(const BottleneckOptions& a, const BottleneckOptions& b,
                        const ModelConfig& config);

}  // namespace temper
