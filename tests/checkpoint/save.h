// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <exception>
#include <thread>

#include "checkpoint/checkpoint_saver.h"
#include "comm/agree.h"
#include "core/error.h"

namespace temper::testing {

/// Between two looks at whether all is written. The threads that write are nice: beside one that
/// looked without a pause they would wait for a core.
inline void rest() { std::this_thread::sleep_for(std::chrono::microseconds(200)); }

/// Returns when all ranks have written. Collective: all ranks.
inline void wait_until_written(const CheckpointSaver& saver, Communicator& ranks) {
  while (!all_of(ranks, saver.is_written())) rest();
}

/// Saves as a training loop does: polls until all ranks have written, and publishes; or abandons,
/// if one of them failed. Throws: CheckpointError on all ranks.
inline void save(CheckpointSaver& saver, Communicator& ranks, const RunState& state,
                 StoreUse use = StoreUse::kGoesOn) {
  saver.begin(state, use);
  for (bool is_written = false; !all_of(ranks, is_written);) {
    std::exception_ptr error;
    try {
      is_written = saver.is_written();
    } catch (const CheckpointError&) {
      error = std::current_exception();
    }
    if (!any_of(ranks, error != nullptr)) {
      if (!is_written) rest();
      continue;
    }
    saver.abandon();
    if (error) std::rethrow_exception(error);
    throw CheckpointError("another rank could not write", "see its message");
  }
  saver.publish();
  saver.settle();
}

/// The state of a run after `step` steps, for tests.
inline RunState run_state(int64_t step) {
  RunState state;
  state.step = step;
  state.num_updates = step - 1;
  state.num_target_tokens = (int64_t{1} << 40) + step;
  state.next_micro_batch = 8 * step;
  state.num_skipped = 1;
  state.trajectory = "digest";
  state.decided_by = "steps=10\nmodel=hash\n";
  state.origin = {"digest before", 4, 3, 2, 16, "run/checkpoints/step-4", "steps was 4 and is 10"};
  state.config_yaml = "a: 1\n";
  return state;
}

}  // namespace temper::testing
