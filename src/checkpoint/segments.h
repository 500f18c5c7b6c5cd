// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/manifest.h"
#include "comm/communicator.h"
#include "core/hash.h"
#include "core/range.h"
#include "io/file.h"

namespace temper {

/// The text of a checkpoint's manifest.
/// Throws: CheckpointError.
std::string read_manifest_text(const std::filesystem::path& checkpoint);

/// A part of a file and the hash that it is to have.
struct Segment {
  const ManifestFile* file;  ///< Of the manifest that it was taken from.
  Range bytes;
  Digest sha256;
};

/// Which files are meant.
enum class VerifiedPart {
  kWhole,
  kPublished,  ///< What others open: the model or the adapter.
};

/// Whether a file is what others open.
bool is_published(const ManifestFile& file);

/// What a manifest says, and which of the segments this rank is to read.
struct SharedManifest {
  Manifest manifest;
  std::vector<Segment> segments;  ///< Refer to the manifest's files, which may be moved with it.
};

/// Reads manifest and digests once, on rank 0, where `check` sees the manifest first, and hands
/// them round: a rank gets the digests of its own segments only. Those are dealt out in order, in
/// about equal numbers of bytes.
/// Collective: all ranks; all throw or none does.
/// Throws: CheckpointError; what `check` throws.
SharedManifest share_manifest(const std::filesystem::path& checkpoint, VerifiedPart part,
                              Communicator& ranks,
                              const std::function<void(const Manifest&)>& check);

/// The same for one process without others: all segments.
SharedManifest read_manifest(const std::filesystem::path& checkpoint, VerifiedPart part,
                             const std::function<void(const Manifest&)>& check);

/// Reads a segment in pieces, hands each to `take`, and compares the hash in the end. Shows that
/// the rank lives.
/// Throws: CheckpointError, naming the file and the bytes that differ.
void read_segment(const File& file, const Segment& segment,
                  const std::function<void(std::span<const std::byte>)>& take);

/// Reads each of the segments, opening each file once.
/// Throws: CheckpointError, as `read_segment`.
void verify_segments(const std::filesystem::path& checkpoint, std::span<const Segment> segments);

}  // namespace temper
