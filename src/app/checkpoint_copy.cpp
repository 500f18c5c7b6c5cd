// SPDX-License-Identifier: Apache-2.0
#include "app/checkpoint_copy.h"

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include "checkpoint/checkpoint_list.h"
#include "checkpoint/together.h"
#include "checkpoint/verification.h"
#include "core/concat.h"
#include "core/error.h"
#include "core/hash.h"
#include "io/file.h"

namespace temper {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kPieceBytes = int64_t{4} << 20;  // Arbitrary.

void copy_segment(const File& from, const Segment& segment, const File& to) {
  std::vector<std::byte> buffer(
      static_cast<size_t>(std::clamp<int64_t>(segment.bytes, 1, kPieceBytes)));
  Sha256 hash;
  const int64_t end = segment.offset + segment.bytes;
  for (int64_t at = segment.offset; at < end; at += kPieceBytes) {
    const std::span piece(buffer.data(), static_cast<size_t>(std::min(kPieceBytes, end - at)));
    from.read(at, piece);
    hash.update(piece);
    to.write(at, piece);
  }
  if (to_hex(hash.finish()) == segment.sha256) return;
  throw CheckpointError(concat(from.path().string(), " was altered: bytes [", segment.offset, ", ",
                               end, ") do not have the hash in the manifest"),
                        "use another checkpoint, or restore this one");
}

void copy_file(const fs::path& from, const ManifestFile& entry, const fs::path& to) {
  const File source = File::open(from, FilePurpose::kCheckpoint);
  File copy = File::open_shared(to, FilePurpose::kCheckpoint);
  for (const Segment& segment : entry.segments) copy_segment(source, segment, copy);
  copy.sync();
  copy.close();
}

}  // namespace

fs::path resolve_checkpoint(const fs::path& path) {
  if (fs::exists(path / Manifest::kFileName)) return path;
  std::string passed_over;
  for (const FoundCheckpoint& found : list_checkpoints(checkpoints_of(path))) {
    try {
      check_files(found.path);
      return found.path;
    } catch (const CheckpointError& error) {
      passed_over += "\n  " + problem_of(error);
    }
  }
  if (!passed_over.empty()) {
    throw CheckpointError(concat("no checkpoint of ", path.string(), " is whole:", passed_over),
                          "restore one of them");
  }
  throw CheckpointError(path.string() + " is no checkpoint, and no run that has one",
                        "give a folder such as RUN/checkpoints/step-00001000, or RUN itself");
}

int64_t copy_verified(const fs::path& checkpoint, const Manifest& manifest,
                      const std::string& subfolder, const fs::path& destination) {
  int64_t bytes = 0;
  for (const ManifestFile& entry : manifest.files) {
    if (!entry.path.starts_with(subfolder + "/")) continue;
    const std::string name = entry.path.substr(subfolder.size() + 1);
    copy_file(checkpoint / entry.path, entry, destination / name);
    bytes += entry.bytes();
  }
  return bytes;
}

}  // namespace temper
