// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>

namespace temper {

/// Where one rank is: its step and its last collectives. Plain bytes, so that it can be sent.
struct RankStatus {
  static constexpr int64_t kNumKept = 4;

  struct Collective {
    int64_t number = 0;  ///< Counted from 1 on each rank alike; 0: none.
    int64_t num_bytes = 0;
    std::array<char, 16> name{};
    int64_t is_done = 0;
  };

  int64_t step = 0;             ///< The one under way; 0 before the first.
  int64_t num_steps_timed = 0;  ///< That own_seconds is a mean of.
  double own_seconds = 0.0;     ///< Of a step, without waiting for other ranks.
  int64_t num_started = 0;      ///< Collectives.
  double idle_seconds = 0.0;    ///< Since one last began or was done, or work went on.
  std::array<char, 16> work{};  ///< What the rank does by itself; empty: nothing.
  std::array<Collective, kNumKept> collectives;  /// [number % kNumKept]
};

/// `step=7 last="#41 all_gather 4096 bytes done, #42 all_reduce 8 bytes under way"`, and what the
/// rank does by itself: ` work=export`.
std::string to_text(const RankStatus& status);

/// The last collectives of this process, kept for the moment when one of them never ends.
///
/// Safe to use from any thread; a call takes well below a microsecond.
class CollectiveRing {
 public:
  /// That of this process.
  static CollectiveRing& own();

  /// Returns the number of the collective. `name` is static.
  int64_t begin(const char* name, int64_t num_bytes);
  void end(int64_t number);

  /// Bytes that this rank sends to others, and all that it has sent so.
  void add_sent(int64_t num_bytes) { num_bytes_sent_ += num_bytes; }
  int64_t num_bytes_sent() const { return num_bytes_sent_; }

  /// From now on `step` is under way.
  void begin_step(int64_t step);

  /// Time that this rank stood in a collective, which is no time of its own.
  void add_waiting(double seconds);

  /// Idle time counts from now on.
  void begin_idle();

  /// What this rank does by itself from now on; empty: nothing long. `name` is static.
  void begin_work(const char* name);

  RankStatus status() const;

 private:
  using Clock = std::chrono::steady_clock;

  mutable std::mutex mutex_;
  RankStatus status_;
  Clock::time_point last_change_ = Clock::now();
  Clock::time_point step_began_ = Clock::now();
  double waited_seconds_ = 0.0;  // In this step.
  std::atomic<int64_t> num_bytes_sent_ = 0;
};

/// Long work that a rank does by itself while others wait for it in a collective, such as copying a
/// model: the watchdog counts no stall while it goes on, and names it if it does not.
class LocalWork {
 public:
  /// `name` is static and has at most 15 characters: "export".
  explicit LocalWork(const char* name) { CollectiveRing::own().begin_work(name); }
  LocalWork(const LocalWork&) = delete;
  LocalWork& operator=(const LocalWork&) = delete;
  ~LocalWork() { CollectiveRing::own().begin_work(""); }

  /// To be called whenever a piece is done, more often than each `stall_seconds`. Any thread.
  void goes_on() const { CollectiveRing::own().begin_idle(); }
};

}  // namespace temper
