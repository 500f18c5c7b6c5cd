// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/final_folder.h"

#include <fcntl.h>

#include <cerrno>
#include <cstdio>
#include <set>
#include <span>
#include <string>
#include <system_error>

#include "checkpoint/new_folder.h"
#include "checkpoint/retention.h"
#include "checkpoint/segments.h"
#include "checkpoint/together.h"
#include "checkpoint/verification.h"
#include "comm/bytes.h"
#include "core/concat.h"
#include "core/error.h"
#include "core/log.h"

namespace temper {
namespace fs = std::filesystem;
namespace {

fs::path new_one(const fs::path& destination) { return destination.string() + ".tmp"; }
fs::path old_one(const fs::path& destination) { return destination.string() + ".old"; }

bool is_weights(const ManifestFile& file) { return file.path.ends_with(".safetensors"); }

// What is below model/ or adapter/ in the checkpoint.
fs::path name_in_final(const ManifestFile& file) {
  return file.path.substr(file.path.find('/') + 1);
}

// `root` and those below it that files of the checkpoint lie in.
std::set<fs::path> folders_of(const Manifest& manifest, const fs::path& root) {
  std::set<fs::path> folders = {root};
  for (const ManifestFile& file : manifest.files) {
    if (is_published(file)) folders.insert((root / name_in_final(file)).parent_path());
  }
  return folders;
}

bool is_anything_at(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(fs::symlink_status(path, ignored));
}

// Whether all files of weights could be linked. Why not does not matter: then they are copied.
bool link_weights(const fs::path& checkpoint, const Manifest& manifest, const fs::path& folder) {
  for (const ManifestFile& file : manifest.files) {
    if (!is_published(file) || !is_weights(file)) continue;
    const fs::path link = folder / name_in_final(file);
    std::error_code error;
    fs::create_hard_link(checkpoint / file.path, link, error);
    if (!error) continue;
    log_event(concat("final links=no reason=\"", error.message(), '"'));
    return false;
  }
  return true;
}

// This rank's segments of what is not linked.
void copy_segments(const fs::path& checkpoint, std::span<const Segment> segments,
                   const fs::path& folder, bool is_linked) {
  for (const Segment& segment : segments) {
    if (is_linked && is_weights(*segment.file)) continue;
    const File source = File::open(checkpoint / segment.file->path, FilePurpose::kCheckpoint);
    File copy = File::open_shared(folder / name_in_final(*segment.file), FilePurpose::kCheckpoint);
    int64_t offset = segment.bytes.begin;
    read_segment(source, segment, [&](std::span<const std::byte> piece) {
      copy.write(offset, piece);
      offset += std::ssize(piece);
    });
    copy.sync();
    copy.close();
  }
}

// In one call where the file system can swap names, else in two, which tidy_final knows of.
void put_in_place(const std::set<fs::path>& folders, const fs::path& destination) {
  const fs::path fresh = new_one(destination);
  for (const fs::path& folder : folders) sync_folder(folder, FilePurpose::kCheckpoint);
  const bool has_old = is_anything_at(destination);
  const bool is_swapped = has_old && ::renameat2(AT_FDCWD, fresh.c_str(), AT_FDCWD,
                                                 destination.c_str(), RENAME_EXCHANGE) == 0;
  if (!is_swapped) {
    if (has_old) rename_folder(destination, old_one(destination));
    rename_folder(fresh, destination);
  }
  sync_folder(fs::absolute(destination).parent_path(), FilePurpose::kCheckpoint);
}

bool agree_with_rank_0(Communicator& ranks, bool value) {
  broadcast_bytes(ranks, std::as_writable_bytes(std::span(&value, 1)));
  return value;
}

}  // namespace

void publish_final(const fs::path& checkpoint, const fs::path& destination, Communicator& ranks,
                   const std::vector<TextFile>& texts) {
  const SharedManifest shared =
      share_manifest(checkpoint, VerifiedPart::kPublished, ranks,
                     [&](const Manifest& manifest) { require_all_there(checkpoint, manifest); });
  const fs::path fresh = new_one(destination);
  const std::set<fs::path> folders = folders_of(shared.manifest, fresh);  // Outer ones first.
  bool is_linked = false;
  do_on_rank_0(ranks, [&] {
    tidy_final(destination);
    for (const fs::path& folder : folders) make_folder(folder);
    is_linked = link_weights(checkpoint, shared.manifest, fresh);
    if (is_linked) return;
    remove_or_log(fresh);  // Links to write into would be the checkpoint's own files.
    for (const fs::path& folder : folders) make_folder(folder);
  });
  is_linked = agree_with_rank_0(ranks, is_linked);
  do_together(ranks, [&] { copy_segments(checkpoint, shared.segments, fresh, is_linked); });
  do_on_rank_0(ranks, [&] {
    for (const TextFile& text : texts) write_file_atomically(fresh / text.path, text.text);
    put_in_place(folders, destination);
    tidy_final(destination);
    log_event(concat("final=", destination.string(), " checkpoint=", checkpoint.string(),
                     " weights=", is_linked ? "linked" : "copied"));
  });
}

void tidy_final(const fs::path& destination) {
  const fs::path old = old_one(destination);
  if (!is_anything_at(destination) && is_anything_at(old)) rename_folder(old, destination);
  for (const fs::path& leftover : {new_one(destination), old}) {
    if (is_anything_at(leftover)) remove_or_log(leftover);
  }
}

}  // namespace temper
