// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/training_data.h"
#include "core/hash.h"
#include "core/range.h"
#include "io/file.h"

namespace temper {

/// A checkpoint was written by a newer temper.
class NewerFormatError : public UnjudgedError {
 public:
  using UnjudgedError::UnjudgedError;
};

/// A file of a checkpoint. It is hashed in segments, since several ranks write it: its header, then
/// equal slices, of which the last may be shorter. A small file is one segment.
struct ManifestFile {
  std::string path;                 ///< Below the checkpoint's folder, with `/`.
  int64_t bytes = 0;                ///< Of the whole file.
  int64_t first_segment_bytes = 0;  ///< All of the file if it is one segment.
  int64_t segment_bytes = 0;        ///< Of each later segment but the last.
  Digest sha256 = {};               ///< Of the file; if it has several segments, of their digests.

  int64_t num_segments() const;

  /// Where a segment lies in the file.
  Range segment(int64_t index) const;
};

/// How a unit was cut; for people, since a reader needs the files' own headers only.
struct ManifestUnit {
  std::string name;
  int64_t num_elements = 0;
  int64_t shard_size = 0;
};

/// What MANIFEST.json says: which files make up a checkpoint, and their hashes. FORMAT.md has its
/// exact form. Its size does not depend on the number of ranks: the segments' digests lie in a file
/// of their own.
struct Manifest {
  static constexpr int64_t kFormatVersion = 2;
  static constexpr const char* kFileName = "MANIFEST.json";
  static constexpr const char* kDigestsName = "digests.bin";

  int64_t step = 0;
  int64_t world_size = 0;
  std::string model_dtype;  ///< Of the files in model/, as safetensors spells it.
  std::vector<ManifestUnit> units;
  std::vector<ManifestFile> files;
  std::optional<TrainingData> data = {};    ///< Nothing in those of a temper before it was there.
  int64_t format_version = kFormatVersion;  ///< Of the text that it was read from.

  int64_t bytes() const;

  /// Of the files that have several: so many digests, in the order of files and segments, belong to
  /// the manifest.
  int64_t num_digests() const;
};

std::string to_json(const Manifest& manifest);

/// Format version 1 had the segments' digests in the manifest: they are put into `digests` if the
/// text is of that version. The others are in a file beside it.
/// Throws: CheckpointError if the text is not whole or was altered; NewerFormatError.
Manifest parse_manifest(std::string_view text, const std::string& name,
                        std::vector<Digest>* digests = nullptr);

/// The hash that a file of several segments has in the manifest.
Digest hash_of_digests(const Digest* begin, int64_t num_digests);

}  // namespace temper
