// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "checkpoint/checkpoint_saver.h"
#include "checkpoint/run_state.h"
#include "comm/communicator.h"
#include "core/clock.h"

namespace temper {

/// Saves beside the training: the step waits only for a copy, and all ranks agree at a later
/// step's border that every file is written before the checkpoint is published.
///
/// Collective: every rank makes the same calls in the same order.
/// Throws: CheckpointError on every rank, if any rank could not write.
class BackgroundSave {
 public:
  BackgroundSave(CheckpointSaver& saver, Communicator& ranks) : saver_(saver), ranks_(ranks) {}

  /// Begins a checkpoint of `state`; finishes the one before first.
  /// Where the state is offloaded it blocks, as `save_last`.
  void start(const RunState& state);

  /// The same where no step follows: takes no copy, and blocks until it is published.
  void save_last(const RunState& state);

  /// Publishes the checkpoint under way if all ranks have written their part.
  void poll();

  /// Blocks until the checkpoint under way is published.
  void finish();

  bool is_under_way() const { return is_under_way_; }

  /// From the begin of the last published checkpoint to its publication; 0 before the first.
  double last_seconds() const { return last_seconds_; }

  /// As CheckpointSaver::note_loss.
  void note_loss(int64_t step, double loss) { saver_.note_loss(step, loss); }

  /// How many this object has published.
  int64_t num_published() const { return num_published_; }

 private:
  void start(const RunState& state, StoreUse use);
  bool publish_if_written();

  CheckpointSaver& saver_;
  Communicator& ranks_;
  bool is_under_way_ = false;
  Stopwatch watch_;
  double last_seconds_ = 0.0;
  int64_t num_published_ = 0;
};

}  // namespace temper
