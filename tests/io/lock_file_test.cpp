// SPDX-License-Identifier: Apache-2.0
#include "io/lock_file.h"

#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <fstream>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "core/clock.h"
#include "core/error.h"
#include "core/stop_signal.h"
#include "io/json.h"
#include "io/temporary_folder.h"

namespace temper {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

constexpr LockTimes kFast{20ms, 400ms};
constexpr LockTimes kPatient{20ms, 1h};  // No test has so long.
constexpr int kAlways = 1'000'000;

// How many of the next calls that read or write a lock fail.
std::atomic<int> num_failing_reads = 0, num_failing_writes = 0;

bool fails(std::atomic<int>& num_left, int file, int reason) {
  if (num_left == 0) return false;
  std::error_code ignored;
  const fs::path path = fs::read_symlink("/proc/self/fd/" + std::to_string(file), ignored);
  if (path.filename() != "lock.json") return false;
  --num_left;
  errno = reason;
  return true;
}

template <typename Look>
bool becomes_true(const Look& look) {
  for (int i = 0; i < 2000 && !look(); ++i) std::this_thread::sleep_for(5ms);
  return look();
}

struct LockFixture {
  LockFixture() { install_stop_signals(); }

  TemporaryFolder folder;
  fs::path path = folder.path() / "lock.json";

  // The message that a second lock is refused with; "" if it is not.
  std::string refusal(LockTimes times = kFast) const {
    try {
      const LockFile second(path, "job 8", times);
    } catch (const Error& error) {
      BOOST_TEST((error.code() == ExitCode::kRefused));
      return error.what();
    }
    return "";
  }

  // What the owner has written; "" while it writes.
  std::string renewals() const {
    std::ifstream file(path);
    const Json json = Json::parse(file, nullptr, /*allow_exceptions=*/false);
    return json.is_object() ? json.value("renewals", "") : "";
  }

  void waits_for_a_renewal() const {
    const std::string before = renewals();
    BOOST_TEST(becomes_true([&] { return renewals() > before; }));
  }

  void refuses(const std::string& expected) const {
    BOOST_CHECK_EXCEPTION(LockFile(path, "job 8", kFast), CheckpointError, [&](const Error& error) {
      BOOST_TEST_MESSAGE(error.what());
      return std::string(error.what()).find(expected) == 0;
    });
  }

  ~LockFixture() { num_failing_reads = num_failing_writes = 0; }

  // As if the lock came from another machine.
  void move_to_other_machine() const {
    Json json = Json::parse(std::ifstream(path));
    json["process_space"] = "another boot";
    std::ofstream(path) << json.dump();
  }

  // A process that locks, is `killed`, and leaves its lock.
  void leave_lock_of_dead_process() const {
    const pid_t child = ::fork();
    if (child == 0) {
      const LockFile lock(path, "job 7", kFast);
      ::kill(::getpid(), SIGKILL);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    BOOST_REQUIRE(fs::exists(path));
  }
};

}  // namespace

}  // namespace temper

// These stand before the C library's, as a file system that fails now and then.
extern "C" ssize_t read(int file, void* bytes, size_t size) {
  if (temper::fails(temper::num_failing_reads, file, ESTALE)) return -1;
  return ::syscall(SYS_read, file, bytes, size);
}

extern "C" ssize_t write(int file, const void* bytes, size_t size) {
  if (temper::fails(temper::num_failing_writes, file, EIO)) return -1;
  return ::syscall(SYS_write, file, bytes, size);
}

namespace temper {

BOOST_FIXTURE_TEST_SUITE(lock_file, LockFixture)

BOOST_AUTO_TEST_CASE(it_is_there_while_it_is_held) {
  {
    const LockFile lock(path, "job 7", kFast);
    BOOST_TEST(lock.is_held());
    for (int i = 0; i < 3; ++i) waits_for_a_renewal();
    BOOST_TEST(lock.is_held());
  }
  BOOST_TEST(fs::is_empty(folder.path()));
}

BOOST_AUTO_TEST_CASE(a_second_one_is_refused_and_told_who_has_it) {
  const LockFile lock(path, "job 7", kFast);
  const std::string message = refusal();
  BOOST_TEST(message.find(folder.path().string() + " is in use by job 7 on ") == 0u, message);
  BOOST_TEST(message.find(", process " + std::to_string(::getpid()) + ", since 20") !=
             std::string::npos);
  BOOST_TEST(message.find("\n  try: wait until it has ended") != std::string::npos);
  BOOST_TEST(lock.is_held());
}

BOOST_AUTO_TEST_CASE(that_of_a_dead_process_is_taken_over_at_once) {
  leave_lock_of_dead_process();
  BOOST_TEST(refusal(kPatient) == "");
  BOOST_TEST(fs::is_empty(folder.path()));
}

BOOST_AUTO_TEST_CASE(that_of_another_machine_is_taken_over_when_it_is_not_renewed) {
  leave_lock_of_dead_process();
  move_to_other_machine();
  const Stopwatch watch;
  BOOST_TEST(refusal() == "");
  BOOST_TEST(watch.seconds() >= 0.4);
}

BOOST_AUTO_TEST_CASE(an_empty_file_is_taken_over_when_it_stays_empty) {
  std::ofstream(path).flush();
  BOOST_TEST(refusal() == "");
}

BOOST_AUTO_TEST_CASE(who_loses_it_knows_and_leaves_the_new_owners) {
  std::optional<LockFile> lock;
  lock.emplace(path, "job 7", kFast);
  fs::remove(path);
  std::ofstream(path) << R"({"owner": "job 8"})";
  BOOST_TEST(becomes_true([&] { return !lock->is_held(); }));
  lock.reset();
  BOOST_TEST(fs::exists(path));
}

BOOST_AUTO_TEST_CASE(renewals_that_fail_do_not_cost_the_lock) {
  const LockFile lock(path, "job 7", kFast);
  for (std::atomic<int>* failing : {&num_failing_reads, &num_failing_writes}) {
    *failing = 3;
    BOOST_TEST(becomes_true([&] { return *failing == 0; }));
    waits_for_a_renewal();
    BOOST_TEST(lock.is_held());
  }
}

BOOST_AUTO_TEST_CASE(a_start_on_a_file_system_that_fails_once_succeeds) {
  num_failing_writes = 1;
  const LockFile lock(path, "job 7", kFast);
  BOOST_TEST(num_failing_writes == 0);
  waits_for_a_renewal();
}

BOOST_AUTO_TEST_CASE(a_file_that_vanishes_or_says_nothing_is_written_again) {
  const LockFile lock(path, "job 7", kFast);
  fs::remove(path);
  BOOST_TEST(becomes_true([&] { return fs::exists(path); }));
  fs::resize_file(path, 0);
  BOOST_TEST(becomes_true([&] { return !renewals().empty(); }));
  waits_for_a_renewal();
  BOOST_TEST(lock.is_held());
}

// Another job may have had it meanwhile, and be finished.
BOOST_AUTO_TEST_CASE(one_that_vanishes_after_a_long_failure_is_lost) {
  const LockFile lock(path, "job 7", kFast);
  num_failing_writes = kAlways;
  std::this_thread::sleep_for(kFast.patience + 200ms);
  BOOST_TEST(lock.is_held());
  fs::remove(path);
  BOOST_TEST(becomes_true([&] { return !lock.is_held(); }));
  BOOST_TEST(!fs::exists(path));
}

BOOST_AUTO_TEST_CASE(a_lock_that_cannot_be_read_is_taken_from_nobody) {
  leave_lock_of_dead_process();
  num_failing_reads = kAlways;
  refuses("cannot read the lock " + path.string() + ": Stale file handle\n  try: check the folder");
  BOOST_TEST(fs::exists(path));
}

BOOST_AUTO_TEST_CASE(a_signal_ends_the_wait_for_another_s_lock_and_leaves_it) {
  leave_lock_of_dead_process();
  move_to_other_machine();
  const std::string theirs = renewals();
  ::raise(SIGTERM);
  BOOST_CHECK_EXCEPTION(LockFile(path, "job 8", kPatient), StopRequest, [&](const Error& error) {
    const std::string message = error.what();
    return error.code() == ExitCode::kResume &&
           message.find("a signal asked for a stop while waiting for " + path.string()) == 0;
  });
  BOOST_TEST(renewals() == theirs);
}

BOOST_AUTO_TEST_CASE(a_signal_ends_the_tries_at_a_file_system_that_fails) {
  num_failing_writes = kAlways;
  ::raise(SIGTERM);
  BOOST_CHECK_THROW(LockFile(path, "job 8", kPatient), StopRequest);
}

BOOST_AUTO_TEST_CASE(what_is_no_file_is_refused) {
  fs::create_symlink("nowhere", path);
  refuses("cannot lock " + path.string() + ": it is a link\n  try: remove it");
  fs::remove(path);
  fs::create_directory(path);
  refuses("cannot lock " + path.string() + ": it is a folder");
}

BOOST_AUTO_TEST_CASE(of_many_that_find_it_dead_one_gets_it) {
  leave_lock_of_dead_process();
  std::atomic<int> num_owners = 0, num_refused = 0;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] {
        try {
          const LockFile lock(path, "job 9", kFast);
          ++num_owners;
          std::this_thread::sleep_for(800ms);
        } catch (const Error&) {
          ++num_refused;
        }
      });
    }
  }
  BOOST_TEST(num_owners == 1);
  BOOST_TEST(num_refused == 3);
}

BOOST_AUTO_TEST_CASE(a_folder_that_cannot_be_written_is_a_clear_error) {
  BOOST_CHECK_EXCEPTION(
      LockFile(folder.path() / "none" / "lock", "job", kFast), CheckpointError,
      [](const Error& error) { return std::string(error.what()).find("cannot lock ") == 0; });
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace temper
