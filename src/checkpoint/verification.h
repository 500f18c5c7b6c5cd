// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <optional>

#include "checkpoint/manifest.h"
#include "checkpoint/segments.h"
#include "checkpoint/together.h"
#include "comm/communicator.h"

namespace temper {

/// A checkpoint of which every byte was found to be as its manifest says. Only those are loaded.
class VerifiedCheckpoint {
 public:
  const std::filesystem::path& folder() const { return folder_; }
  const Manifest& manifest() const { return manifest_; }

 private:
  friend VerifiedCheckpoint verify_checkpoint(const std::filesystem::path&, Communicator&);
  VerifiedCheckpoint(std::filesystem::path folder, Manifest manifest)
      : folder_(std::move(folder)), manifest_(std::move(manifest)) {}

  std::filesystem::path folder_;
  Manifest manifest_;
};

/// The manifest of a checkpoint whose files are all there in full length; nothing is hashed.
/// Throws: CheckpointError, naming what is missing, torn, short or does not belong there;
///   UnjudgedError.
Manifest check_files(const std::filesystem::path& checkpoint);

/// The same for a manifest that is read already.
void require_all_there(const std::filesystem::path& checkpoint, const Manifest& manifest);

/// Hashes the whole checkpoint; each rank reads its share.
/// Collective: all ranks; all throw or none does.
/// Throws: CheckpointError, naming the file and the bytes that differ; UnjudgedError.
VerifiedCheckpoint verify_checkpoint(const std::filesystem::path& checkpoint, Communicator& ranks);

/// The same by one process without others. Local.
/// Throws: CheckpointError, as `check_files` and `verify_checkpoint`.
Manifest verify_alone(const std::filesystem::path& checkpoint, VerifiedPart part);

/// The newest checkpoint of a run that is whole. The log names each newer one that is damaged. One
/// that cannot be read is tried again after each of `pauses`, and never passed over: the steps in
/// it would be lost. Nothing if the run has no checkpoint at all.
/// Collective: all ranks.
/// Throws: CheckpointError if there are checkpoints, but none is whole; UnjudgedError if one that
///   may be the newest whole one cannot be read; StopRequest.
std::optional<VerifiedCheckpoint> find_newest_whole(const std::filesystem::path& run,
                                                    Communicator& ranks,
                                                    const Pauses& pauses = default_pauses());

}  // namespace temper
