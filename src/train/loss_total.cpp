// SPDX-License-Identifier: Apache-2.0
#include "train/loss_total.h"

#include "zero/sum_over_ranks.h"

namespace temper {

void LossTotal::combine(Communicator& ranks, at::Device device) {
  sum_over_ranks(sum_.words(), ranks, device);
  sum_over_ranks({&num_targets_, 1}, ranks, device);
}

}  // namespace temper
