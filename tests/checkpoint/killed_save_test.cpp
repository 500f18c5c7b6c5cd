// SPDX-License-Identifier: Apache-2.0
// A process that is killed while it saves: at each of its calls that change the file system, and at
// random times. What it had published is whole, and the next process goes on from it.
#include <ATen/Parallel.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <set>
#include <string>
#include <thread>

#include "checkpoint/checkpoint_list.h"
#include "checkpoint/checkpoint_saver.h"
#include "checkpoint/final_folder.h"
#include "checkpoint/load_state.h"
#include "checkpoint/save.h"
#include "checkpoint/single_rank.h"
#include "checkpoint/tiny_folder.h"
#include "core/random.h"
#include "io/temporary_folder.h"

namespace {

// The process dies before the call after so many others; never if negative.
std::atomic<int> countdown = -1;

bool has_links = true;  // What the file system can do.
bool has_swap = true;

void count_call() {
  if (countdown >= 0 && countdown.fetch_sub(1) == 0) ::kill(::getpid(), SIGKILL);
}

}  // namespace

// These definitions stand before libc's.
extern "C" {
ssize_t pwrite(int descriptor, const void* bytes, size_t count, off_t offset) {
  count_call();
  return syscall(SYS_pwrite64, descriptor, bytes, count, offset);
}
int fsync(int) {
  count_call();
  return 0;  // What a process has written survives it, flushed or not; the test is faster so.
}
int rename(const char* from, const char* to) {
  count_call();
  return static_cast<int>(syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to));
}
int mkdir(const char* path, mode_t mode) {
  count_call();
  return static_cast<int>(syscall(SYS_mkdirat, AT_FDCWD, path, mode));
}
int remove(const char* path) {
  count_call();
  const auto status = static_cast<int>(syscall(SYS_unlinkat, AT_FDCWD, path, 0));
  if (status == 0 || errno != EISDIR) return status;
  return static_cast<int>(syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR));
}
int link(const char* from, const char* to) {
  count_call();
  if (has_links) return static_cast<int>(syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0));
  errno = EPERM;
  return -1;
}
int renameat2(int, const char* from, int, const char* to, unsigned int flags) {
  count_call();
  if (has_swap)
    return static_cast<int>(syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, flags));
  errno = EINVAL;
  return -1;
}
int unlink(const char* path) {
  count_call();
  return static_cast<int>(syscall(SYS_unlinkat, AT_FDCWD, path, 0));
}
int unlinkat(int folder, const char* path, int flags) {
  count_call();
  return static_cast<int>(syscall(SYS_unlinkat, folder, path, flags));
}
int symlink(const char* target, const char* path) {
  count_call();
  return static_cast<int>(syscall(SYS_symlinkat, target, AT_FDCWD, path));
}
}

namespace temper {
namespace {

using testing::Head;

// Whether the child was killed, rather than done.
bool wait_for(pid_t child) {
  int status = 0;
  BOOST_REQUIRE(::waitpid(child, &status, 0) == child);
  if (WIFSIGNALED(status)) {
    BOOST_TEST(WTERMSIG(status) == SIGKILL);
    return true;
  }
  BOOST_TEST(WEXITSTATUS(status) == 0);
  return false;
}

struct Fixture {
  Fixture() {
    at::set_num_threads(1);  // A child of a process with threads could wait for a lost lock.
    testing::write_tiny_folder(folder / "source", Head::kTied, DType::kF32);
  }

  int64_t newest_step() {
    const auto found = find_newest_whole(folder.path(), ranks);
    if (!found) return 0;
    UnitStore store(in_form(testing::tiny_units(Head::kTied)), ranks, {});
    const RunState state = load_checkpoint(*found, store, ranks);
    BOOST_TEST(testing::has_state(store, state.step));
    return state.step;
  }

  // In a child: goes on from the newest checkpoint and saves `num_saves` steps, keeping one.
  [[noreturn]] void save_and_exit(int num_saves) {
    const ModelFolder model(folder / "source");
    UnitStore store(in_form(model.units()), ranks, {});
    const int64_t first = newest_step();
    CheckpointOptions options;
    options.keep = 1;
    CheckpointSaver saver({store, ranks, folder.path(), first}, published_model(model), options);
    for (int64_t step = first + 1; step <= first + num_saves; ++step) {
      testing::fill_state(store, step);
      testing::save(saver, ranks, testing::run_state(step));
    }
    ::_exit(0);
  }

  pid_t start_child(int num_saves, int calls_until_death) {
    const pid_t child = ::fork();
    if (child != 0) return child;
    ::close(STDERR_FILENO);
    countdown = calls_until_death;
    save_and_exit(num_saves);
  }

  // In a child: publishes the result of the run.
  pid_t start_publishing(int calls_until_death) {
    const pid_t child = ::fork();
    if (child != 0) return child;
    ::close(STDERR_FILENO);
    countdown = calls_until_death;
    publish_final(checkpoints_of(folder.path()) / "latest", folder / "final", ranks);
    ::_exit(0);
  }

  // Of the result, whole and of one step: the names and bytes of its files.
  std::string result() const {
    std::set<std::string> files;
    for (const auto& entry : std::filesystem::directory_iterator(folder / "final")) {
      files.insert(entry.path().filename().string() + '=' + content_of(entry.path()));
    }
    std::string all;
    for (const std::string& file : files) all += file;
    return all;
  }

  void expect_a_whole_result_wherever_publishing_dies() {
    wait_for(start_child(1, -1));
    wait_for(start_publishing(-1));
    const std::string old = result();
    wait_for(start_child(1, -1));
    std::string wanted;
    int num_kills = 0;
    while (wait_for(start_publishing(num_kills))) {
      const bool is_there = std::filesystem::exists(folder / "final");
      BOOST_TEST((is_there || !has_swap), "none at call " << num_kills);
      tidy_final(folder / "final");
      const std::string found = result();
      if (found != old && wanted.empty()) wanted = found;
      BOOST_TEST((found == old || found == wanted), "torn at call " << num_kills);
      ++num_kills;
    }
    BOOST_TEST(!wanted.empty());
    BOOST_TEST((result() == wanted));
    BOOST_TEST(num_kills > 10);
    for (const char* leftover : {"final.tmp", "final.old"}) {
      BOOST_TEST(!std::filesystem::exists(folder / leftover));
    }
    ModelFolder{folder / "final"};
  }

  testing::SingleRank ranks;
  TemporaryFolder folder;
};

}  // namespace

BOOST_FIXTURE_TEST_SUITE(killed_save, Fixture)

// Two saves per child, so that the removal of the older checkpoint is among the places.
BOOST_AUTO_TEST_CASE(nothing_published_is_lost_wherever_a_process_dies) {
  wait_for(start_child(1, -1));
  int64_t before = newest_step();
  BOOST_TEST(before == 1);
  int num_kills = 0;
  while (wait_for(start_child(2, num_kills))) {
    const int64_t after = newest_step();
    BOOST_TEST((after == before || after == before + 1 || after == before + 2),
               "step " << before << " became " << after << " at call " << num_kills);
    before = after;
    ++num_kills;
  }
  BOOST_TEST(num_kills > 150);
  BOOST_TEST(newest_step() == before + 2);
  BOOST_TEST(list_checkpoints(checkpoints_of(folder.path()), ".tmp").empty());
  BOOST_TEST(list_checkpoints(checkpoints_of(folder.path()), ".trash").empty());
}

// By times of one save, which takes longer under sanitizers and beside other tests.
BOOST_AUTO_TEST_CASE(nothing_published_is_lost_whenever_a_process_dies) {
  const auto begin = std::chrono::steady_clock::now();
  wait_for(start_child(1, -1));
  const std::chrono::duration<double> one_save = std::chrono::steady_clock::now() - begin;
  int64_t before = newest_step();
  for (uint64_t i = 0; i < 40; ++i) {
    const pid_t child = start_child(1000, -1);
    std::this_thread::sleep_for(one_save * (0.2 + 1.5 * random_uniform(7, i)));
    ::kill(child, SIGKILL);
    BOOST_TEST(wait_for(child));
    const int64_t after = newest_step();
    BOOST_TEST(after >= before);
    before = after;
  }
  BOOST_TEST(before > 1);
}

BOOST_AUTO_TEST_CASE(a_result_is_whole_wherever_its_publication_dies) {
  expect_a_whole_result_wherever_publishing_dies();
}

BOOST_AUTO_TEST_CASE(a_result_is_whole_on_a_file_system_without_links_and_swaps) {
  has_links = has_swap = false;
  expect_a_whole_result_wherever_publishing_dies();
  has_links = has_swap = true;
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace temper
