// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "model/decoder.h"

namespace temper {

/// How the tokens of a step have chosen their experts.
struct ExpertUse {
  std::vector<double> shares;  ///< [expert], of all choices in all layers.
  double idle_share = 0.0;     ///< Of the experts of all layers those that no token has chosen.
  double choices_per_expert = 0.0;  ///< In the mean.
};

/// Watches for routers that send all tokens to a few experts.
class ExpertWatch {
 public:
  /// Words, once, for a step in which most experts were idle though each could have had many
  /// tokens; else none.
  std::string add(int64_t step, const ExpertUse& use);

 private:
  static constexpr double kFewChoices = 16.0;  // Fewer may leave one idle by chance; arbitrary.
  static constexpr double kMostIdle = 0.5;     // Arbitrary.

  bool has_told_ = false;
};

/// Adds up the choices of micro-batches and ranks.
class ExpertCounter {
 public:
  explicit ExpertCounter(const ModelConfig& config);

  /// Those of the decoder's last micro-batch.
  void add(const Decoder& decoder);

  /// Of all ranks. Collective, but for a model without experts. Throws: CommError.
  ExpertUse combine(Communicator& ranks);

 private:
  int64_t num_experts_;
  std::vector<bool> layers_;      // [layer], which have experts.
  std::vector<int64_t> choices_;  // [layer * num_experts + expert]
};

}  // namespace temper
