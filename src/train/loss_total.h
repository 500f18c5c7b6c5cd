// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "comm/communicator.h"
#include "core/exact_sum.h"

namespace temper {

/// Summed cross-entropy and the number of targets it came from, over micro-batches and ranks.
///
/// Every token weighs the same, however unevenly micro-batches are filled, and the mean does not
/// depend on who computed what.
class LossTotal {
 public:
  void add(double loss_sum, int64_t num_targets) {
    sum_.add(loss_sum);
    num_targets_ += num_targets;
  }

  /// Replaces this rank's total by that of all ranks. Collective.
  void combine(Communicator& ranks);

  int64_t num_targets() const { return num_targets_; }
  double mean() const { return sum_.value() / static_cast<double>(num_targets_); }

 private:
  ExactSum sum_;
  int64_t num_targets_ = 0;
};

}  // namespace temper
