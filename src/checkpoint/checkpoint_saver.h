// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <future>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/background_writer.h"
#include "checkpoint/checkpoint_options.h"
#include "checkpoint/host_copy.h"
#include "checkpoint/manifest.h"
#include "checkpoint/published_folder.h"
#include "checkpoint/run_state.h"
#include "checkpoint/unit_files.h"
#include "comm/communicator.h"
#include "core/clock.h"
#include "core/hash.h"
#include "io/file.h"
#include "zero/unit_store.h"

namespace temper {

/// Whether the store goes on changing while a checkpoint is written, or rests until it is
/// published.
enum class StoreUse { kGoesOn, kRests };

/// What is saved, and where. The references must outlive the saver.
struct SaverSetup {
  const UnitStore& store;  ///< With moments.
  Communicator& ranks;
  std::filesystem::path run;              ///< Checkpoints go to `checkpoints/` in it.
  int64_t resumed_step = 0;               ///< Where this job goes on from; 0 for a fresh run.
  std::optional<TrainingData> data = {};  ///< For the manifest; rank 0's counts.
  /// One for each file of a set, as HostCopy takes them; frozen ones are copied from the base.
  std::vector<UnitLayout> saved = {};
};

/// Writes checkpoints in the background, from a host copy of this rank's slices, and publishes them
/// by a rename. FORMAT.md says what is written.
///
/// After `begin` the owner polls `is_written` until it is true on *all* ranks, and then calls
/// `publish`; if it threw on any rank, all ranks call `abandon` instead. The thread in the
/// background does nothing but write files. Published checkpoints beyond `keep` are removed, on
/// another thread of rank 0. Those of steps after `resumed_step`, which a job before this one left,
/// are set aside at the first `begin`.
class CheckpointSaver {
 public:
  /// Reads the small files that go with the weights.
  /// Collective. Throws: ModelError if one cannot be read; ConfigError for an unknown model_dtype.
  CheckpointSaver(const SaverSetup& setup, const PublishedFolder& published,
                  const CheckpointOptions& options);

  /// Whether the store must rest while a checkpoint is written: a copy would not fit into memory.
  bool needs_rest() const { return setup_.store.is_offloaded(); }

  /// Copies the state and starts to write it. The store may be changed when this returns, unless it
  /// was said to rest: then nothing is copied that lies on the host.
  /// Collective. Throws: CheckpointError on all ranks, if the folder cannot be made or is too full.
  void begin(const RunState& state, StoreUse use = StoreUse::kGoesOn);

  /// The name of the folder of a checkpoint that others open.
  const char* published_folder() const { return published_; }

  /// Whether this rank's part is safely in storage. Local; does not block.
  /// Throws: CheckpointError if this rank could not write its part.
  bool is_written() const { return writer_.is_done(); }

  /// Files that this rank writes a part of, and how many of them are written by now.
  int64_t num_files() const { return std::ssize(unit_files_) + std::ssize(text_files_); }
  int64_t num_written() const { return writer_.num_written(); }

  /// The loss that a step has on the hold-out that decides which checkpoint is the best one. Local;
  /// others than rank 0 have no use for it.
  void note_loss(int64_t step, double loss) { losses_[step] = loss; }

  /// The step of the checkpoint that is there with the lowest loss, the first of equals; nothing if
  /// none of them has one. Local. Throws: CheckpointError.
  std::optional<int64_t> best_step() const;

  /// Removes what is not to stay: also what jobs before this one had no time to publish or to
  /// remove. `latest` points to the newest checkpoint of this run then, `best` to the best one.
  /// Goes on in the background. Local.
  void tidy();

  /// Waits until all is removed that is to be. Local; others than rank 0 have nothing to wait for.
  void settle();

  /// Makes the checkpoint visible under its name, then points `latest` to it and removes old ones
  /// in the background.
  /// Collective: after is_written() has been true on every rank.
  /// Throws: CheckpointError on all ranks. Nothing is under way then, and nothing published, unless
  ///   it was the last flush that failed: the checkpoint stands, but a loss of power may undo it.
  void publish();

  /// Stops writing and removes what was written so far; what cannot be removed is logged.
  /// Collective.
  void abandon();

 private:
  using JobDigests = std::vector<std::vector<Digest>>;  // [job][part]

  std::filesystem::path temporary() const;
  void prepare_folder() const;
  void require_space() const;
  std::vector<TextFile> make_text_files(const RunState& state) const;
  FilePart own_part(const UnitFile& file) const;
  FileJob unit_job(const UnitFile& file) const;
  std::vector<FileJob> plan_jobs() const;
  std::vector<Digest> gather_slice_digests(const JobDigests& own) const;
  size_t first_file() const;
  JobDigests in_order_of_files(JobDigests written) const;
  std::vector<Digest> list_digests(const JobDigests& own, const std::vector<Digest>& slices) const;
  Manifest make_manifest(const std::vector<Digest>& digests) const;
  void finish_folder(const JobDigests& own, const std::vector<Digest>& slices) const;
  void start_removal();

  SaverSetup setup_;
  int64_t keep_;
  std::filesystem::path checkpoints_;
  const char* published_;          // The name of the folder that others open.
  const SafetensorsFolder* base_;  // Of tensors that are frozen.
  DType model_dtype_;
  HostCopy copy_;
  std::vector<UnitFile> unit_files_;
  std::vector<TextFile> companions_;  // Rank 0 only, as are the next two.
  std::vector<TextFile> indexes_;
  std::vector<TextFile> text_files_;  // Of the checkpoint under way.
  std::string name_;                  // Of the checkpoint under way.
  int64_t step_ = 0;
  int64_t newest_;                    // The step of the newest checkpoint of this run.
  std::map<int64_t, double> losses_;  // By step; rank 0 only.
  bool is_first_ = true;
  Stopwatch watch_;
  BackgroundWriter writer_;    // Its thread reads the copy.
  std::future<void> removal_;  // Rank 0 only; its destructor waits.
};

}  // namespace temper
