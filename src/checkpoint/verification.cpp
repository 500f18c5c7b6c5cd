// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/verification.h"

#include <sstream>
#include <string>
#include <system_error>
#include <vector>

#include "checkpoint/checkpoint_list.h"
#include "checkpoint/together.h"
#include "core/clock.h"
#include "core/concat.h"
#include "core/error.h"
#include "core/log.h"
#include "io/file.h"

namespace temper {
namespace fs = std::filesystem;
namespace {

[[noreturn]] void refuse(const std::string& problem) {
  throw CheckpointError(problem, "use another checkpoint, or restore this one");
}

[[noreturn]] void refuse_unread(const fs::path& path, const std::error_code& reason) {
  const std::string problem = concat("cannot read ", path.string(), ": ", reason.message());
  if (is_absence(reason)) refuse(problem);
  throw StorageError(problem, "check the storage and the rights of the folder, then start again");
}

void require_one_manifest(const fs::path& checkpoint) {
  std::error_code error;
  fs::directory_iterator entry(checkpoint, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name.starts_with("MANIFEST") && name != Manifest::kFileName) {
      refuse(concat(checkpoint.string(), " has a second manifest, ", name));
    }
  }
  if (error) refuse_unread(checkpoint, error);
}

void require_length(const fs::path& path, int64_t bytes) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (status.type() == fs::file_type::none) refuse_unread(path, error);
  if (!fs::exists(status)) refuse(concat(path.string(), " is missing"));
  if (!fs::is_regular_file(status)) refuse(concat(path.string(), " is not a regular file"));
  const auto found = static_cast<int64_t>(fs::file_size(path, error));
  if (error) refuse_unread(path, error);
  if (found != bytes) refuse(concat(path.string(), " has ", found, " bytes, wanted ", bytes));
}

// A manifest that was copied from another step describes other files.
void require_step(const fs::path& checkpoint, int64_t step) {
  const std::string name = checkpoint.filename().string();
  if (!is_checkpoint_name(name) || name == checkpoint_name(step)) return;
  refuse(concat((checkpoint / Manifest::kFileName).string(), " is that of step ", step));
}

// Rank 0's list for all: on a network file system they need not see the same yet.
std::vector<int64_t> list_steps(const fs::path& folder, Communicator& ranks) {
  std::string text;
  do_on_rank_0(ranks, [&] {
    for (const FoundCheckpoint& found : list_checkpoints(folder)) text += concat(found.step, ' ');
  });
  std::istringstream stream(broadcast_text(ranks, text));
  std::vector<int64_t> steps;
  for (int64_t step = 0; stream >> step;) steps.push_back(step);
  return steps;
}

}  // namespace

void require_all_there(const fs::path& checkpoint, const Manifest& manifest) {
  require_one_manifest(checkpoint);
  require_step(checkpoint, manifest.step);
  for (const ManifestFile& file : manifest.files) {
    require_length(checkpoint / file.path, file.bytes);
  }
}

Manifest check_files(const fs::path& checkpoint) {
  const std::string name = (checkpoint / Manifest::kFileName).string();
  Manifest manifest = parse_manifest(read_manifest_text(checkpoint), name);
  require_all_there(checkpoint, manifest);
  return manifest;
}

VerifiedCheckpoint verify_checkpoint(const fs::path& checkpoint, Communicator& ranks) {
  SharedManifest shared =
      share_manifest(checkpoint, VerifiedPart::kWhole, ranks,
                     [&](const Manifest& manifest) { require_all_there(checkpoint, manifest); });
  do_together(ranks, [&] { verify_segments(checkpoint, shared.segments); });
  return {checkpoint, std::move(shared.manifest)};
}

Manifest verify_alone(const fs::path& checkpoint, VerifiedPart part) {
  SharedManifest all = read_manifest(
      checkpoint, part, [&](const Manifest& manifest) { require_all_there(checkpoint, manifest); });
  verify_segments(checkpoint, all.segments);
  return std::move(all.manifest);
}

std::optional<VerifiedCheckpoint> find_newest_whole(const fs::path& run, Communicator& ranks,
                                                    const Pauses& pauses) {
  const fs::path folder = checkpoints_of(run);
  std::vector<int64_t> steps;
  try_again(ranks, pauses, [&] { steps = list_steps(folder, ranks); });
  std::string passed_over;
  for (const int64_t step : steps) {
    const Stopwatch watch;
    std::optional<VerifiedCheckpoint> found;
    try {
      try_again(ranks, pauses,
                [&] { found = verify_checkpoint(folder / checkpoint_name(step), ranks); });
      log_event(concat("checkpoint verified=", found->folder().string(),
                       " bytes=", found->manifest().bytes(), " seconds=", watch.seconds()));
      return found;
    } catch (const StorageError& error) {
      throw StorageError(
          concat(checkpoint_name(step), " cannot be read now, and may be whole: ", error.problem()),
          "start again once the storage is well; to go on from the checkpoint "
          "before it and lose its steps, move it out of " +
              folder.string());
    } catch (const UnjudgedError&) {
      throw;
    } catch (const CheckpointError& error) {
      log_event(concat("checkpoint passed_over=", checkpoint_name(step), " reason=\"",
                       error.problem(), '"'));
      passed_over += concat("\n  ", checkpoint_name(step), ": ", error.problem());
    }
  }
  if (passed_over.empty()) return {};
  throw CheckpointError(concat("no checkpoint in ", folder.string(), " is whole:", passed_over),
                        "restore one of them, or start afresh in another run folder");
}

}  // namespace temper
