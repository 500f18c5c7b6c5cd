// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sstream>
#include <string>
#include <vector>

#include "support/simulated_device/device_counts.h"
#include "train/invariant_run.h"

namespace temper::testing {

struct StepCounts {
  DeviceCounts last;  // Of one step.
  int64_t allocations_after_first = 0;
};

/// What the third of three steps asks of this rank's device, with so many micro-batches on each.
inline StepCounts counts_of_steps(Communicator& ranks, const Variant& variant,
                                  int num_micro_batches) {
  return with_model(ranks, variant, [&](Engine& engine, UnitStore& store) {
    Trainer trainer(engine, store, ranks, Schedule({}, 3), {{.learning_rate = 0.01}, 0.5});
    RunState state;
    StepCounts counts;
    for (int step = 0; step < 3; ++step) {
      const DeviceCounts before = device_counts();
      std::vector<PackedBatch> batch;
      for (int j = 0; j < num_micro_batches; ++j) {
        batch.push_back(tiny_batch(engine.decoder().config(), 2, ranks.device()));
      }
      trainer.train_step(batch, num_micro_batches * ranks.world_size(), state);
      counts.last = device_counts().since(before);
      if (step > 0) counts.allocations_after_first += counts.last.allocations;
    }
    return counts;
  });
}

inline std::string to_text(const DeviceCounts& counts) {
  std::ostringstream text;
  text << counts.launches << " launches:";
  for (const auto& [name, number] : counts.by_operator) text << "\n  " << number << ' ' << name;
  return text.str();
}

}  // namespace temper::testing
