// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "checkpoint/model_folder.h"
#include "checkpoint/peft/adapter_folder.h"
#include "model/adapter/combine.h"
#include "model/adapter/lora.h"

namespace temper {

struct WeightedAdapter {
  const AdapterFolder* adapter;
  double weight = 1.0;
};

/// Several LoRA adapters of one base as one, by weights: what peft's add_weighted_adapter makes. A
/// module that only some of them adapt is combined from these. A and B are combined each for
/// itself, with the square root of the weight times the adapter's scale, so that the result has the
/// scale 1. Holds no tensor; `tensor` reads what it needs.
///
/// Two things are better here than in peft, which keeps `use_rslora` and `layers_to_transform` of
/// the first adapter: the scale is 1 with rsLoRA, too, and no module of the others is lost.
/// Throws: ConfigError where peft refuses: other ranks; targets by list and by expression; for what
///   is no low-rank addition, such as DoRA's lengths and whole modules; and for
///   one adapter that is to be combined otherwise than linearly, where peft goes on linearly.
/// Source: peft 0.21, tuners/lora/model.py.
class CombinedAdapter {
 public:
  /// Adapters and base must outlive this object. The adapters are LoRA.
  CombinedAdapter(std::vector<WeightedAdapter> adapters, const CombineOptions& options,
                  const ModelFolder& base);

  /// In the order of the model.
  const std::vector<LoraModule>& modules() const { return modules_; }

  /// The tensor of a module: kLoraDown [rank, in] or kLoraUp [out, rank], fp32.
  /// Throws: ModelError if a number is not finite.
  at::Tensor tensor(const LoraModule& module, const char* part) const;

  /// Of an adapter with these modules, ranks and scales.
  LoraOptions options() const;

 private:
  void add_modules(const WeightedAdapter& weighted);

  std::vector<WeightedAdapter> adapters_;
  CombineOptions options_;
  const ModelConfig& config_;
  std::vector<std::vector<LoraModule>> own_;  // [adapter][module]
  std::vector<LoraModule> modules_;           // Of all.
};

}  // namespace temper
