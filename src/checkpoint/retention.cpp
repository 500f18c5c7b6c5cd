// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/retention.h"

#include <string_view>
#include <system_error>

#include "checkpoint/checkpoint_list.h"
#include "checkpoint/together.h"
#include "checkpoint/verification.h"
#include "comm/collective_ring.h"
#include "core/concat.h"
#include "core/error.h"
#include "core/log.h"

namespace temper {
namespace fs = std::filesystem;
namespace {

bool has_all_files(const fs::path& checkpoint) {
  try {
    check_files(checkpoint);
    return true;
  } catch (const CheckpointError& error) {
    log_event(concat("checkpoint damaged=\"", error.problem(), '"'));
    return false;
  }
}

// Renamed first: a half-removed folder is never taken for a checkpoint.
void remove_checkpoint(const fs::path& checkpoint) {
  const fs::path trash = checkpoint.string() + ".trash";
  std::error_code error;
  fs::rename(checkpoint, trash, error);
  if (error) {
    log_event(concat("checkpoint left=", checkpoint.string(), " reason=", error.message()));
  } else {
    remove_or_log(trash);
  }
}

}  // namespace

void remove_or_log(const fs::path& folder) {
  const LocalWork work("removal");
  std::error_code error;
  fs::recursive_directory_iterator entry(folder, error);
  for (; !error && entry != fs::recursive_directory_iterator(); entry.increment(error)) {
    work.goes_on();
    std::error_code ignored;
    if (!entry->is_directory(ignored)) fs::remove(entry->path(), ignored);
  }
  fs::remove_all(folder, error);
  if (error) log_event(concat("checkpoint left=", folder.string(), " reason=", error.message()));
}

void remove_leftovers(const fs::path& folder) {
  for (const std::string_view suffix : {".tmp", ".trash"}) {
    for (const FoundCheckpoint& leftover : list_checkpoints(folder, suffix))
      remove_or_log(leftover.path);
  }
}

void rename_folder(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::rename(from, to, error);
  if (!error) return;
  throw CheckpointError(concat("cannot rename ", from.string(), " to ", to.filename().string(),
                               ": ", error.message()),
                        "check the storage and the rights of the folder");
}

void set_aside_after(const fs::path& folder, int64_t step) {
  for (const FoundCheckpoint& checkpoint : list_checkpoints(folder)) {
    if (checkpoint.step <= step) break;
    const fs::path aside = checkpoint.path.string() + ".superseded";
    remove_or_log(aside);  // Superseded twice.
    rename_folder(checkpoint.path, aside);
    log_event(concat("checkpoint superseded=", aside.string()));
  }
}

void remove_old_checkpoints(const fs::path& folder, int64_t keep, int64_t newest,
                            std::optional<int64_t> best) {
  int64_t num_kept = 0;
  for (const FoundCheckpoint& checkpoint : list_checkpoints(folder)) {
    if (checkpoint.step > newest) continue;  // Passed over, or of a branch that is left.
    if (num_kept >= keep) {
      if (checkpoint.step != best) remove_checkpoint(checkpoint.path);
    } else if (has_all_files(checkpoint.path)) {
      ++num_kept;
    }
  }
}

void point_to(const fs::path& checkpoint, const std::string& name) {
  const fs::path link = checkpoint.parent_path() / name;
  const fs::path fresh = checkpoint.parent_path() / concat('.', name, ".tmp");
  std::error_code error;
  fs::remove(fresh, error);
  fs::create_symlink(checkpoint.filename(), fresh, error);
  if (!error) fs::rename(fresh, link, error);
  if (!error) return;
  throw CheckpointError(concat("cannot point ", link.string(), " to ",
                               checkpoint.filename().string(), ": ", error.message()),
                        "check the storage and the rights of the folder");
}

}  // namespace temper
