// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "model/decoder_units.h"
#include "model/model_config.h"

namespace temper {

/// What of a model full fine-tuning trains: what `only` means, or all if that is empty, without
/// what `freeze` means. Each is a list of patterns, as ParameterPattern reads them.
struct TrainedOptions {
  std::vector<std::string> only = {};
  std::vector<std::string> freeze = {};

  bool has_any() const { return !only.empty() || !freeze.empty(); }
};

/// Parameters with a learning rate or a weight decay of their own. Each is in the first group that
/// means it.
struct ParameterGroup {
  std::vector<std::string> match = {};      ///< Patterns, as ParameterPattern reads them.
  double learning_rate = 0.0;               ///< At its peak; 0: the optimizer's.
  double learning_rate_ratio = 0.0;         ///< Or so many times the optimizer's; 0: once.
  std::optional<double> weight_decay = {};  ///< Also of norms and biases; nothing: as without it.

  bool has_rate() const { return learning_rate > 0.0 || learning_rate_ratio > 0.0; }

  /// So many times the optimizer's learning rate.
  double rate_ratio(double learning_rate_of_all) const;
};

/// All that decides how each parameter of a model is trained.
struct ParameterOptions {
  TrainedOptions trained;
  std::vector<ParameterGroup> groups;
  double learning_rate = 0.0;  ///< Of what is in no group.
  /// What is in no group with a rate of its own learns at so many times the rate of what lies right
  /// above it: the head at the whole rate, the last block at this times it, the embedding, also a
  /// tied one, slowest. 1: all alike.
  double layer_decay = 1.0;
};

/// A model's units with what the options say of each tensor.
struct TrainedParameters {
  DecoderUnits units;
  std::vector<std::vector<TensorSlot>> groups = {};  ///< [group], what is in it and trained.
};

/// The units that a decoder of the model computes with, frozen and trained apart, and their tensors
/// with the rates and decays of their groups and depths.
/// Source: Clark et al., "ELECTRA", arXiv:2003.10555, appendix B, and Bao et al., "BEiT",
///   arXiv:2106.08254 (its code's get_num_layer_for_vit): rates by depth.
/// Throws: OptionError for a pattern that means nothing, or in a group nothing that is trained and
///   in no group before; if nothing is left to train; if a head and the embedding that it is tied
///   to are not treated alike.
TrainedParameters trained_parameters(const ParameterOptions& options, const ModelConfig& model);

/// How many parameters of the units are trained.
int64_t num_trained(const std::vector<UnitLayout>& units);

}  // namespace temper
