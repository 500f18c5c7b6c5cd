// SPDX-License-Identifier: Apache-2.0
// A call of the system that fails on one rank, at each place of a save in turn.
#include <dlfcn.h>
#include <fcntl.h>
#include <mpi.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>

#include "checkpoint/checkpoint_list.h"
#include "checkpoint/checkpoint_saver.h"
#include "checkpoint/load_state.h"
#include "checkpoint/save.h"
#include "checkpoint/shared_folder.h"
#include "core/concat.h"
#include "core/stop_signal.h"
#include "io/file.h"

namespace {

// The calls that a save makes, and that of a load; these definitions stand before libc's.
enum Call { kPwrite, kFsync, kClose, kRename, kMkdir, kPread, kNumCalls };

struct Fault {
  std::atomic<int> countdown = -1;  // The call after so many others fails.
  std::atomic<int> reason = 0;
};
Fault faults[kNumCalls];
std::atomic<bool> is_disk_full = false;
std::atomic<bool> is_first_write = false;
std::string first_written;  // The file of the first write since is_first_write was set.

// errno for the call that is to fail, else 0.
int failure_of(Call call) {
  Fault& fault = faults[call];
  if (fault.countdown < 0 || fault.countdown.fetch_sub(1) != 0) return 0;
  return fault.reason;
}

template <typename Result, typename... Arguments>
Result call_or_fail(Call call, long number, Arguments... arguments) {
  if (const int reason = failure_of(call)) {
    errno = reason;
    return -1;
  }
  return static_cast<Result>(syscall(number, arguments...));
}

}  // namespace

extern "C" {
ssize_t pread(int descriptor, void* bytes, size_t count, off_t offset) {
  return call_or_fail<ssize_t>(kPread, SYS_pread64, descriptor, bytes, count, offset);
}
ssize_t pwrite(int descriptor, const void* bytes, size_t count, off_t offset) {
  if (is_first_write.exchange(false)) {
    const std::string link = temper::concat("/proc/self/fd/", descriptor);
    first_written = std::filesystem::read_symlink(link).filename();
  }
  return call_or_fail<ssize_t>(kPwrite, SYS_pwrite64, descriptor, bytes, count, offset);
}
int fsync(int descriptor) {
  // Nothing is flushed: the machine does not fail here, and the test is faster so.
  return call_or_fail<int>(kFsync, SYS_fcntl, descriptor, F_GETFD) < 0 ? -1 : 0;
}
int close(int descriptor) { return call_or_fail<int>(kClose, SYS_close, descriptor); }
int rename(const char* from, const char* to) {
  return call_or_fail<int>(kRename, SYS_renameat, AT_FDCWD, from, AT_FDCWD, to);
}
int statvfs(const char* path, struct statvfs* space) noexcept {
  using Call = int (*)(const char*, struct statvfs*);
  static const auto next = reinterpret_cast<Call>(::dlsym(RTLD_NEXT, "statvfs"));
  const int status = next(path, space);
  if (is_disk_full) space->f_bavail = 1;
  return status;
}
int mkdir(const char* path, mode_t mode) {
  return call_or_fail<int>(kMkdir, SYS_mkdirat, AT_FDCWD, path, mode);
}
}

namespace temper {
namespace {

namespace fs = std::filesystem;

struct WorldFixture : testing::WorldWithModel {
  WorldFixture() {
    model.emplace(source);
    store.emplace(in_form(model->units()), world, StoreOptions{});
    saver.emplace(SaverSetup{*store, world, folder.path()}, published_model(*model),
                  CheckpointOptions{});
    save(1);
  }
  ~WorldFixture() {
    for (Fault& fault : faults) fault.countdown = -1;
    is_disk_full = false;
  }

  void save(int64_t step) {
    testing::fill_state(*store, step);
    testing::save(*saver, world, testing::run_state(step));
  }

  // Saves while the n-th of these calls fails on one rank. Returns the message, or "" if none
  // failed.
  std::string save_with(Call call, int n, int reason, int rank) {
    if (world.rank() == rank) {
      faults[call].reason = reason;
      faults[call].countdown = n;
    }
    std::string message;
    try {
      save(2);
    } catch (const CheckpointError& error) {
      message = error.what();
    }
    faults[call].countdown = -1;
    world.barrier();
    return message;
  }

  // Nothing of the failed save is left, and what was published is whole. Only where the rename was
  // done and could not be flushed may the new one be there.
  void expect_untouched(int64_t last_step = 1) {
    const auto found = find_newest_whole(folder.path(), world);
    BOOST_TEST(found.has_value());
    if (!found) return;
    const int64_t step = found->manifest().step;
    BOOST_TEST((step == 1 || step == last_step));
    load_checkpoint(*found, *store, world);
    BOOST_TEST(testing::has_state(*store, step));
    if (world.rank() == 0) {
      BOOST_TEST(!fs::exists(checkpoints_of(folder.path()) / "step-00000002.tmp"));
    }
    world.barrier();
  }

  // Lets the first, second, … of these calls fail until a save does not make so many.
  int fail_each(Call call, int reason, int rank) {
    for (int n = 0;; ++n) {
      const std::string message = save_with(call, n, reason, rank);
      if (message.empty()) return n;
      BOOST_TEST_CONTEXT("call " << call << " number " << n << " on rank " << rank)
      BOOST_TEST(message.find("\n  try: ") != std::string::npos, message);
      if (world.rank() == rank) {
        BOOST_TEST(message.find(std::strerror(reason)) != std::string::npos, message);
      }
      expect_untouched(call == kFsync ? 2 : 1);
    }
  }

  std::optional<ModelFolder> model;
  std::optional<UnitStore> store;
  std::optional<CheckpointSaver> saver;
};

}  // namespace

BOOST_FIXTURE_TEST_SUITE(failing_save, WorldFixture)

BOOST_AUTO_TEST_CASE(a_full_disk_at_any_write_of_any_rank_leaves_what_was_published) {
  const int rank = world.world_size() > 1 ? 1 : 0;  // On later ranks lies padding only.
  const int num_writes = fail_each(kPwrite, ENOSPC, rank);
  BOOST_TEST(num_writes >= (rank == 0 ? 39 : 1));
  BOOST_TEST(find_newest_whole(folder.path(), world)->manifest().step == 2);
}

BOOST_AUTO_TEST_CASE(a_full_disk_at_any_write_of_rank_0_leaves_what_was_published) {
  BOOST_TEST(fail_each(kPwrite, EDQUOT, 0) >= 20);
}

BOOST_AUTO_TEST_CASE(a_failed_flush_anywhere_leaves_what_was_published) {
  BOOST_TEST(fail_each(kFsync, EIO, 0) >= 24);
}

BOOST_AUTO_TEST_CASE(a_failed_rename_leaves_what_was_published) {
  const std::string message = save_with(kRename, 0, EIO, 0);
  BOOST_TEST(message.find("cannot rename ") != std::string::npos, message);
  expect_untouched();
  save(3);
  BOOST_TEST(find_newest_whole(folder.path(), world)->manifest().step == 3);
}

BOOST_AUTO_TEST_CASE(a_folder_that_cannot_be_made_fails_on_all_ranks) {
  const std::string message = save_with(kMkdir, 0, EACCES, 0);
  BOOST_TEST(message.find("cannot make the folder ") != std::string::npos, message);
  BOOST_TEST((world.rank() == 0) == (message.find("rank 0: ") == std::string::npos), message);
  expect_untouched();
}

BOOST_AUTO_TEST_CASE(a_disk_without_the_space_is_told_before_anything_is_written) {
  is_disk_full = true;
  std::string message;
  try {
    save(2);
  } catch (const CheckpointError& error) {
    message = error.what();
  }
  BOOST_TEST(message.find("a checkpoint takes ") != std::string::npos, message);
  BOOST_TEST(message.find("/checkpoints has only ") != std::string::npos, message);
  BOOST_TEST(message.find("\n  try: free some space") != std::string::npos, message);
  is_disk_full = false;
  expect_untouched();
  save(3);
  BOOST_TEST(find_newest_whole(folder.path(), world)->manifest().step == 3);
}

// The second of three has slices of embedding and block only.
BOOST_AUTO_TEST_CASE(each_rank_begins_to_write_at_another_file) {
  is_first_write = true;
  save(2);
  if (world.rank() == 0) {
    BOOST_TEST(first_written == "model-00001-of-00004.safetensors");
  } else if (world.rank() == 1) {
    BOOST_TEST(first_written == "master-00002-of-00004.safetensors");  // File 5 of 16.
  }
}

// Of Llama-3 70B on as many ranks.
BOOST_AUTO_TEST_CASE(ranks_begin_all_over_the_files) {
  for (const int num_ranks : {64, 4096}) {
    std::map<size_t, int> num_begun;
    for (int rank = 0; rank < num_ranks; ++rank) ++num_begun[first_file_of(rank, num_ranks, 328)];
    BOOST_TEST(num_begun.rbegin()->first < 328u);
    BOOST_TEST(std::ssize(num_begun) == std::min(num_ranks, 328));
    for (const auto& [file, count] : num_begun) BOOST_TEST(count <= 13);  // Of 4096 ranks.
  }
}

BOOST_AUTO_TEST_CASE(a_device_error_that_passes_is_no_failure) {
  BOOST_TEST(save_with(kPwrite, 3, EIO, 0).empty());
  BOOST_TEST(find_newest_whole(folder.path(), world)->manifest().step == 2);
}

BOOST_AUTO_TEST_CASE(what_cannot_be_removed_does_not_end_the_run) {
  save(2);
  // The third checkpoint's own rename succeeds, and that of `latest`; that of the oldest one to its
  // trash does not.
  if (world.rank() == 0) {
    faults[kRename].reason = EIO;
    faults[kRename].countdown = 2;
  }
  save(3);
  faults[kRename].countdown = -1;
  if (world.rank() == 0) {
    BOOST_TEST(list_checkpoints(checkpoints_of(folder.path())).size() == 3u);
  }
}

// On rank 0 alone something is damaged, on the last one alone storage is away for a moment.
BOOST_AUTO_TEST_CASE(all_ranks_agree_on_what_is_damaged_and_what_could_not_be_read) {
  save(2);
  const int last = world.world_size() - 1;
  const auto lose_a_read = [&] {
    if (world.rank() != last) return;
    faults[kPread].reason = ESTALE;
    faults[kPread].countdown = last == 0 ? 2 : 0;  // Rank 0 reads the manifest first.
  };
  lose_a_read();
  BOOST_CHECK_THROW(find_newest_whole(folder.path(), world, Pauses{}), StorageError);
  lose_a_read();
  BOOST_TEST(find_newest_whole(folder.path(), world, Pauses(1))->manifest().step == 2);

  if (world.rank() == 0) {
    const fs::path weights = "step-00000002/model/model-00001-of-00004.safetensors";
    const File file =
        File::open_shared(checkpoints_of(folder.path()) / weights, FilePurpose::kCheckpoint);
    file.write(0, std::as_bytes(std::span("?", 1)));
  }
  world.barrier();
  lose_a_read();
  BOOST_TEST(find_newest_whole(folder.path(), world, Pauses(1))->manifest().step == 1);
  faults[kPread].countdown = -1;
}

// The wait would take an hour.
BOOST_AUTO_TEST_CASE(a_signal_to_one_rank_ends_the_wait_for_storage_on_all) {
  install_stop_signals();
  if (world.rank() == 0) {
    faults[kPread].reason = ESTALE;
    faults[kPread].countdown = 0;
  }
  if (world.rank() + 1 == world.world_size()) ::raise(SIGTERM);
  BOOST_CHECK_THROW(find_newest_whole(folder.path(), world, Pauses{std::chrono::hours(1)}),
                    StopRequest);
  install_stop_signals();  // Forgets it.
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace temper
