// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/segments.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <string_view>

#include "checkpoint/together.h"
#include "comm/bytes.h"
#include "comm/collective_ring.h"
#include "core/concat.h"
#include "core/error.h"
#include "core/progress_bar.h"

namespace temper {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kDigestBytes = sizeof(Digest);
constexpr int64_t kDigestsPerMessage = int64_t{1} << 17;  // 4 MiB: arbitrary.

[[noreturn]] void refuse(const std::string& problem) {
  throw CheckpointError(problem, "use another checkpoint, or restore this one");
}

std::string path_of_manifest(const fs::path& checkpoint) {
  return (checkpoint / Manifest::kFileName).string();
}

// The list of digests is as long as the cuts of all files ask for.
void require_length(const Manifest& manifest, const fs::path& checkpoint) {
  int64_t listed = 0;
  for (const ManifestFile& file : manifest.files) {
    if (file.path == Manifest::kDigestsName) listed = file.bytes;
  }
  int64_t left = listed / kDigestBytes;
  for (const ManifestFile& file : manifest.files) {
    if (file.num_segments() == 1) continue;
    if (file.num_segments() > left) {
      refuse(concat(path_of_manifest(checkpoint), ": ", Manifest::kDigestsName, " has ", listed,
                    " bytes, too few for the segments of all files"));
    }
    left -= file.num_segments();
  }
}

// Each file's digests have the hash that the manifest has for the file.
void require_hashes(const Manifest& manifest, const std::vector<Digest>& digests,
                    const fs::path& checkpoint) {
  const Digest* next = digests.data();
  for (const ManifestFile& file : manifest.files) {
    if (file.num_segments() == 1) continue;
    if (hash_of_digests(next, file.num_segments()) != file.sha256) {
      refuse(concat((checkpoint / Manifest::kDigestsName).string(), " was altered: its digests of ",
                    file.path, " do not have the hash in the manifest"));
    }
    next += file.num_segments();
  }
}

std::vector<Digest> read_digests(const Manifest& manifest, const fs::path& checkpoint) {
  std::vector<Digest> digests(static_cast<size_t>(manifest.num_digests()));
  if (digests.empty()) return digests;
  const File file = File::open(checkpoint / Manifest::kDigestsName, FilePurpose::kCheckpoint);
  file.read(0, std::as_writable_bytes(std::span(digests)));
  return digests;
}

// The manifest with all digests; only rank 0, or a process alone, does this.
Manifest read_all(const fs::path& checkpoint, const std::function<void(const Manifest&)>& check,
                  std::vector<Digest>& digests) {
  Manifest manifest =
      parse_manifest(read_manifest_text(checkpoint), path_of_manifest(checkpoint), &digests);
  check(manifest);
  if (digests.empty()) {
    require_length(manifest, checkpoint);
    digests = read_digests(manifest, checkpoint);
  }
  require_hashes(manifest, digests, checkpoint);
  return manifest;
}

// Calls `visit(file, index of the segment, number of its digest or -1)` for what belongs to `part`.
template <typename Visit>
void for_each_segment(const Manifest& manifest, VerifiedPart part, const Visit& visit) {
  int64_t digest = 0;
  for (const ManifestFile& file : manifest.files) {
    const bool is_listed = file.num_segments() > 1;
    const bool is_wanted = part == VerifiedPart::kWhole || is_published(file);
    for (int64_t i = 0; is_wanted && i < file.num_segments(); ++i) {
      visit(file, i, is_listed ? digest + i : -1);
    }
    if (is_listed) digest += file.num_segments();
  }
}

struct Share {
  std::vector<Segment> segments;
  std::vector<int64_t> digests;  // [segment] Their numbers, ascending; -1: known already.
};

// A segment goes to the rank whose equal share of all bytes its middle falls into.
Share share_of(const Manifest& manifest, VerifiedPart part, int rank, int world_size) {
  int64_t all = 1;
  for_each_segment(manifest, part, [&](const ManifestFile& file, int64_t i, int64_t) {
    all += file.segment(i).size();
  });
  const double share = static_cast<double>(all) / world_size;
  Share own;
  int64_t begin = 0;
  for_each_segment(manifest, part, [&](const ManifestFile& file, int64_t i, int64_t digest) {
    const Range bytes = file.segment(i);
    const double middle = static_cast<double>(begin) + 0.5 * static_cast<double>(bytes.size());
    begin += bytes.size();
    if (static_cast<int>(middle / share) != rank) return;
    own.segments.push_back({&file, bytes, file.sha256});
    own.digests.push_back(digest);
  });
  return own;
}

// Sets what `piece`, which begins with digest `first` of all, has of the share.
void take_digests(std::span<const Digest> piece, int64_t first, Share& own) {
  for (size_t i = 0; i < own.segments.size(); ++i) {
    const int64_t at = own.digests[i] - first;
    if (own.digests[i] < 0 || at < 0 || at >= std::ssize(piece)) continue;
    own.segments[i].sha256 = piece[static_cast<size_t>(at)];
  }
}

}  // namespace

std::string read_manifest_text(const fs::path& checkpoint) {
  return read_file(checkpoint / Manifest::kFileName, FilePurpose::kCheckpoint);
}

bool is_published(const ManifestFile& file) {
  return file.path.starts_with("model/") || file.path.starts_with("adapter/");
}

SharedManifest share_manifest(const fs::path& checkpoint, VerifiedPart part, Communicator& ranks,
                              const std::function<void(const Manifest&)>& check) {
  std::vector<Digest> digests;
  std::string text;
  int64_t format_version = 0;
  do_on_rank_0(ranks, [&] {
    const Manifest manifest = read_all(checkpoint, check, digests);
    format_version = manifest.format_version;
    text = to_json(manifest);
  });
  text = broadcast_text(ranks, text);
  broadcast_bytes(ranks, std::as_writable_bytes(std::span(&format_version, 1)));
  SharedManifest shared{parse_manifest(text, path_of_manifest(checkpoint)), {}};
  shared.manifest.format_version = format_version;
  Share own = share_of(shared.manifest, part, ranks.rank(), ranks.world_size());
  const int64_t num_digests = shared.manifest.num_digests();
  for (int64_t first = 0; first < num_digests; first += kDigestsPerMessage) {
    std::vector<Digest> piece(
        static_cast<size_t>(std::min(kDigestsPerMessage, num_digests - first)));
    if (!digests.empty()) std::copy_n(digests.begin() + first, piece.size(), piece.begin());
    broadcast_bytes(ranks, std::as_writable_bytes(std::span(piece)));
    take_digests(piece, first, own);
  }
  shared.segments = std::move(own.segments);
  return shared;
}

SharedManifest read_manifest(const fs::path& checkpoint, VerifiedPart part,
                             const std::function<void(const Manifest&)>& check) {
  std::vector<Digest> digests;
  SharedManifest read{read_all(checkpoint, check, digests), {}};
  Share all = share_of(read.manifest, part, 0, 1);
  take_digests(digests, 0, all);
  read.segments = std::move(all.segments);
  return read;
}

void read_segment(const File& file, const Segment& segment,
                  const std::function<void(std::span<const std::byte>)>& take) {
  const LocalWork work("checkpoint");
  Sha256 hash;
  read_in_pieces(file, segment.bytes, [&](std::span<const std::byte> piece) {
    hash.update(piece);
    take(piece);
    work.goes_on();
  });
  if (hash.finish() == segment.sha256) return;
  refuse(concat(file.path().string(), " was altered: bytes [", segment.bytes.begin, ", ",
                segment.bytes.end, ") do not have the hash in the manifest"));
}

void verify_segments(const fs::path& checkpoint, std::span<const Segment> segments) {
  std::optional<File> file;
  const ManifestFile* opened = nullptr;
  int64_t num_bytes = 0;
  for (const Segment& segment : segments) num_bytes += segment.bytes.size();
  ProgressBar bar("verifying", num_bytes, ProgressBar::Unit::kBytes);
  for (const Segment& segment : segments) {
    if (segment.file != opened) {
      file.emplace(File::open(checkpoint / segment.file->path, FilePurpose::kCheckpoint));
      opened = segment.file;
    }
    read_segment(*file, segment,
                 [&](std::span<const std::byte> piece) { bar.add(std::ssize(piece)); });
  }
}

}  // namespace temper
