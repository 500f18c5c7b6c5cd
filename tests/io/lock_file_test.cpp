// SPDX-License-Identifier: Apache-2.0
#include "io/lock_file.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <boost/test/unit_test.hpp>
#include <fstream>
#include <optional>
#include <thread>
#include <vector>

#include "core/clock.h"
#include "core/error.h"
#include "io/json.h"
#include "io/temporary_folder.h"

namespace temper {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

constexpr LockTimes kFast{20ms, 400ms};

struct LockFixture {
  TemporaryFolder folder;
  fs::path path = folder.path() / "lock.json";

  // The message that a second lock is refused with; "" if it is not.
  std::string refusal() const {
    try {
      const LockFile second(path, "job 8", kFast);
    } catch (const Error& error) {
      BOOST_TEST((error.code() == ExitCode::kRefused));
      return error.what();
    }
    return "";
  }

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

BOOST_FIXTURE_TEST_SUITE(lock_file, LockFixture)

BOOST_AUTO_TEST_CASE(it_is_there_while_it_is_held) {
  {
    const LockFile lock(path, "job 7", kFast);
    BOOST_TEST(lock.is_held());
    std::this_thread::sleep_for(100ms);  // Some renewals.
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
  const Stopwatch watch;
  BOOST_TEST(refusal() == "");
  BOOST_TEST(watch.seconds() < 0.3);
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
  std::ofstream(path) << "another's";
  std::this_thread::sleep_for(100ms);
  BOOST_TEST(!lock->is_held());
  lock.reset();
  BOOST_TEST(fs::exists(path));
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
