// SPDX-License-Identifier: Apache-2.0
#include "train/loss_total.h"

#include <algorithm>
#include <vector>

#include "comm/agree.h"

namespace temper {

void LossTotal::combine(Communicator& ranks) {
  std::vector<int64_t> words(sum_.words().begin(), sum_.words().end());
  words.push_back(num_targets_);
  reduce_words(ranks, words, ReduceOp::kSum);
  num_targets_ = words.back();
  std::copy_n(words.begin(), sum_.words().size(), sum_.words().begin());
}

}  // namespace temper
