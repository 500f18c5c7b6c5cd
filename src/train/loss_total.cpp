// SPDX-License-Identifier: Apache-2.0
#include "train/loss_total.h"

#include "comm/agree.h"

namespace temper {

void LossTotal::combine(Communicator& ranks) {
  reduce_words(ranks, sum_.words(), ReduceOp::kSum);
  reduce_words(ranks, {&num_targets_, 1}, ReduceOp::kSum);
}

}  // namespace temper
