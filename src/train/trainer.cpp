// SPDX-License-Identifier: Apache-2.0
#include "train/trainer.h"

#include <cmath>

#include "optim/gradient_norm.h"
#include "train/batch.h"
#include "train/loss_total.h"
#include "zero/projected_unit.h"

namespace temper {

StepResult Trainer::train_step(std::span<const PackedBatch> rank_batch, RunState& state) {
  LossTotal total;
  int64_t number = state.next_micro_batch + ranks_.rank();
  for (const PackedBatch& micro_batch : rank_batch) {
    total.add(engine_.forward_backward(micro_batch, number), count_targets(micro_batch));
    number += ranks_.world_size();
  }
  store_.finish_gradients();
  const Adapter* adapter = engine_.adapter();
  if (adapter != nullptr) pull_back_gradient(*adapter, ranks_, store_);
  total.combine(ranks_, store_.options().device);

  StepResult result;
  result.num_targets = total.num_targets();
  result.learning_rate = options_.adamw.learning_rate * schedule_.multiplier(state.step);
  if (result.num_targets > 0) {
    // The folded gradients are those of the summed loss: the mean's are 1 / num_targets of them.
    const double scale = 1.0 / static_cast<double>(result.num_targets);
    result.loss = total.mean();
    result.grad_norm = store_.gradient_norm(scale);
    result.updated = std::isfinite(result.loss) && std::isfinite(result.grad_norm);
    if (result.updated) {
      const double factor = clip_factor(result.grad_norm, options_.max_grad_norm);
      store_.update(options_.adamw, {state.num_updates + 1, result.learning_rate, scale * factor,
                                     options_.adamw.weight_decay});
      if (adapter != nullptr) project_unit(*adapter, store_);
    }
  }
  if (!result.updated) store_.discard_gradients();
  state.count_step(result.num_targets, result.updated,
                   static_cast<int64_t>(rank_batch.size()) * ranks_.world_size());
  return result;
}

}  // namespace temper
