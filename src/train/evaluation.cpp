// SPDX-License-Identifier: Apache-2.0
#include "train/evaluation.h"

#include "core/concat.h"
#include "core/error.h"
#include "train/batch.h"
#include "train/loss_total.h"

namespace temper {

std::optional<EvaluationResult> evaluate(Engine& engine, const HoldOut& holdout,
                                         Communicator& ranks, at::Device device,
                                         const std::function<bool()>& is_stopped) {
  LossTotal total;
  for (int64_t first = 0; first < holdout.num_micro_batches; first += ranks.world_size()) {
    if (is_stopped && is_stopped()) return std::nullopt;
    const int64_t index = first + ranks.rank();
    if (index < holdout.num_micro_batches) {
      const MicroBatch micro_batch = holdout.micro_batch(index);
      total.add(engine.loss(to_packed_batch(micro_batch, device)), micro_batch.num_targets);
    } else {
      engine.join_loss();  // The last round may leave ranks without a batch.
    }
  }
  total.combine(ranks, device);
  if (total.num_targets() == 0) {
    throw DataError(concat("hold-out ", holdout.name, " has no target"),
                    "give it documents of at least two tokens");
  }
  return EvaluationResult{total.mean(), total.num_targets()};
}

}  // namespace temper
