// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace temper {

/// How near a model is kept to another one while it is trained: to the loss of each target comes
/// `weight` times the divergence of its distribution from that of the other model,
///
///   temperature^2 * KL(softmax(other / temperature) || softmax(logits / temperature)).
///
/// The square keeps the size of the gradient about the same at any temperature.
/// Source: Hinton et al., "Distilling the knowledge in a neural network", arXiv:1503.02531,
///   section 2; Li and Hoiem, "Learning without forgetting", arXiv:1606.09282.
struct KlOptions {
  double weight = 0.0;  ///< 0: there is no other model.
  double temperature = 1.0;

  bool is_on() const { return weight > 0.0; }
};

}  // namespace temper
