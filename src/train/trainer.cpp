// SPDX-License-Identifier: Apache-2.0
#include "train/trainer.h"

#include <cmath>

#include "core/phase_log.h"
#include "optim/gradient_norm.h"
#include "train/batch.h"
#include "zero/projected_unit.h"

namespace temper {

// `first` is the number of the step's first micro-batch in the run.
Trainer::Totals Trainer::add_up_gradients(std::span<const PackedBatch> rank_batch,
                                          int64_t num_micro_batches, int64_t first) {
  Totals totals;
  ExpertCounter experts(engine_.decoder().config());
  SourceLosses sources(options_.num_sources);
  size_t round = 0;
  for (int64_t begin = 0; begin < num_micro_batches; begin += ranks_.world_size()) {
    store_.begin_round(num_micro_batches - begin);
    if (round < rank_batch.size()) {
      const PackedBatch& own = rank_batch[round++];
      const MicroBatchLoss loss = engine_.forward_backward(own, first + begin + ranks_.rank());
      totals.loss.add(loss.cross_entropy, count_targets(own));
      totals.kl.add(loss.kl, count_targets(own));
      experts.add(engine_.decoder());
      sources.add(own, loss.of_targets);
    } else {
      engine_.join_forward_backward();
    }
  }
  store_.finish_gradients();
  totals.loss.combine(ranks_);
  if (engine_.other() != nullptr) totals.kl.combine(ranks_);
  totals.experts = experts.combine(ranks_);
  totals.sources = sources.combine(ranks_);
  return totals;
}

StepResult Trainer::train_step(std::span<const PackedBatch> rank_batch, int64_t num_micro_batches,
                               RunState& state) {
  const Totals totals = add_up_gradients(rank_batch, num_micro_batches, state.next_micro_batch);
  const Adapter* adapter = engine_.adapter();
  if (adapter != nullptr) pull_back_gradient(*adapter, ranks_, store_);

  StepResult result;
  result.num_targets = totals.loss.num_targets();
  result.experts = totals.experts;
  result.sources = totals.sources;
  result.learning_rate = options_.adamw.learning_rate * schedule_.multiplier(state.step);
  if (result.num_targets > 0) {
    // The folded gradients are those of the summed loss: the mean's are 1 / num_targets of them.
    const double scale = 1.0 / static_cast<double>(result.num_targets);
    result.loss = totals.loss.mean();
    if (engine_.other() != nullptr) result.kl = totals.kl.mean();
    result.grad_norm = store_.gradient_norm(scale);
    const int64_t every = options_.unit_norms_every_steps;
    const bool is_measured = every > 0 && (state.step + 1) % every == 0;
    if (is_measured) result.unit_grad_norms = store_.unit_gradient_norms(scale);
    result.updated = std::isfinite(result.loss) && std::isfinite(result.grad_norm);
    if (result.updated) {
      const Phase phase("update");
      const double factor = clip_factor(result.grad_norm, options_.max_grad_norm);
      result.update_sizes = store_.update(options_.adamw,
                                          {state.num_updates + 1, result.learning_rate,
                                           scale * factor, options_.adamw.weight_decay},
                                          is_measured ? Measured::kYes : Measured::kNo);
      if (adapter != nullptr) project_unit(*adapter, store_);
    }
  }
  if (!result.updated) store_.discard_gradients();
  state.count_step(result.num_targets, result.updated, num_micro_batches);
  return result;
}

}  // namespace temper
