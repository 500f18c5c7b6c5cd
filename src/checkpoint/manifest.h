// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"

namespace temper {

/// A checkpoint was written by a newer temper. For all that this one knows it is whole.
class NewerFormatError : public CheckpointError {
 public:
  using CheckpointError::CheckpointError;
};

/// A contiguous part of a file that one rank wrote.
struct Segment {
  int64_t offset = 0;
  int64_t bytes = 0;
  std::string sha256;  ///< Of the segment's bytes, lower-case hex.
};

struct ManifestFile {
  std::string path;               ///< Below the checkpoint's folder, with `/`.
  std::vector<Segment> segments;  ///< In order, without gaps, over the whole file.

  int64_t bytes() const { return segments.back().offset + segments.back().bytes; }
};

/// How a unit was cut; for people, since a reader needs the files' own headers only.
struct ManifestUnit {
  std::string name;
  int64_t num_elements = 0;
  int64_t shard_size = 0;
};

/// What MANIFEST.json says: which files make up a checkpoint, and their hashes. FORMAT.md has its
/// exact form.
struct Manifest {
  static constexpr int64_t kFormatVersion = 1;
  static constexpr const char* kFileName = "MANIFEST.json";

  int64_t step = 0;
  int64_t world_size = 0;
  std::string model_dtype;  ///< Of the files in model/, as safetensors spells it.
  std::vector<ManifestUnit> units;
  std::vector<ManifestFile> files;

  int64_t bytes() const;
};

std::string to_json(const Manifest& manifest);

/// Throws: CheckpointError if the text is not whole or was altered; NewerFormatError.
Manifest parse_manifest(std::string_view text, const std::string& name);

}  // namespace temper
