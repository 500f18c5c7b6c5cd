// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "model/decoder.h"

namespace temper::testing {

/// A decoder with all its weights and gradients in memory, run as the engine runs it.
class WholeDecoder {
 public:
  /// Weights are uninitialised, gradients poisoned with NaN.
  WholeDecoder(const ModelConfig& config, at::ScalarType dtype, at::Device device = at::kCPU);

  Decoder& decoder() { return decoder_; }

  /// Numbers that depend on the tensor's place alone: matrices around 0, vectors around 1.
  void fill_weights();

  /// The tensor of that name in Hugging Face files. Throws: std::invalid_argument.
  at::Tensor weight(const std::string& name) { return find(weights_, name); }
  at::Tensor gradient(const std::string& name) { return find(gradients_, name); }
  std::vector<std::string> names() const;

  struct Pass {
    double loss_sum = 0.0;
    at::Tensor hidden;           // [T, hidden], the last block's output.
    at::Tensor hidden_gradient;  // [T, hidden], of the embedding's output.
  };

  /// Forward and backward; overwrites all gradients.
  Pass forward_backward(const PackedBatch& batch);

  /// Forward without a graph.
  Pass forward(const PackedBatch& batch);

 private:
  at::Tensor find(const std::vector<at::Tensor>& buffers, const std::string& name);

  Decoder decoder_;
  std::vector<at::Tensor> weights_;    // [unit]
  std::vector<at::Tensor> gradients_;  // [unit]
};

/// Documents of these lengths with pseudo-random tokens; each position but a document's last has
/// the next token as its target.
PackedBatch make_batch(const ModelConfig& config, const std::vector<int64_t>& lengths);

}  // namespace temper::testing
