// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace temper {

/// One stretch of work, for a trace.
struct PhaseEvent {
  const char* name = "";
  int64_t number = -1;            ///< Of a block of the model, or none.
  double begin_microseconds = 0;  ///< Since recording began.
  double microseconds = 0;        ///< What lies in it included.
};

/// What this process' main thread spends its time on: seconds by phase, and while it is asked for
/// each stretch. A phase within another one counts for itself alone. Other threads are not counted.
class PhaseLog {
 public:
  /// That of this process, of the thread that asks for it first.
  static PhaseLog& own();

  /// Seconds of each phase since the last call.
  std::map<std::string_view, double> take_seconds();

  /// From now on stretches are kept, or are not.
  void record(bool is_recording);

  /// Those that were kept; none are left.
  std::vector<PhaseEvent> take_events();

 private:
  friend class Phase;
  friend class TracedBlock;
  using Clock = std::chrono::steady_clock;
  struct Open {
    const char* name;
    Clock::time_point begin, counted;  // When it began, and from when it is not yet counted.
  };

  bool is_own_thread() const { return std::this_thread::get_id() == thread_; }
  void begin(const char* name);
  void end();
  void keep(const char* name, int64_t number, Clock::time_point begin);

  std::thread::id thread_ = std::this_thread::get_id();
  std::vector<Open> open_;  // The outermost first.
  std::map<std::string_view, double> seconds_;
  bool is_recording_ = false;
  Clock::time_point recording_began_;
  std::vector<PhaseEvent> events_;
};

/// A phase, from its construction to its end. `name` is static: "forward".
class Phase {
 public:
  explicit Phase(const char* name) { PhaseLog::own().begin(name); }
  Phase(const Phase&) = delete;
  Phase& operator=(const Phase&) = delete;
  ~Phase() { PhaseLog::own().end(); }
};

/// A part of a phase that is of use in a trace alone.
class TracedBlock {
 public:
  TracedBlock(const char* name, int64_t number) : name_(name), number_(number) {}
  TracedBlock(const TracedBlock&) = delete;
  TracedBlock& operator=(const TracedBlock&) = delete;
  ~TracedBlock() { PhaseLog::own().keep(name_, number_, begin_); }

 private:
  const char* name_;
  int64_t number_;
  PhaseLog::Clock::time_point begin_ = PhaseLog::Clock::now();
};

/// A trace as Chrome's chrome://tracing and Perfetto open it.
/// Source: "Trace Event Format", complete ("X") and metadata ("M") events.
std::string to_chrome_trace(const std::vector<PhaseEvent>& events, int rank);

}  // namespace temper
