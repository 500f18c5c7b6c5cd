// SPDX-License-Identifier: Apache-2.0
#include "core/phase_log.h"

#include <cstdio>
#include <utility>

#include "core/concat.h"

namespace temper {
namespace {

double seconds_of(std::chrono::steady_clock::duration time) {
  return std::chrono::duration<double>(time).count();
}

// Microseconds with three digits behind the point, as any locale must not change them.
std::string time_text(double microseconds) {
  const auto nanoseconds = static_cast<int64_t>(microseconds * 1e3);
  std::string digits = concat(nanoseconds % 1000);
  digits.insert(0, 3 - digits.size(), '0');
  return concat(nanoseconds / 1000, '.', digits);
}

}  // namespace

PhaseLog& PhaseLog::own() {
  static PhaseLog log;
  return log;
}

std::map<std::string_view, double> PhaseLog::take_seconds() { return std::exchange(seconds_, {}); }

void PhaseLog::record(bool is_recording) {
  if (is_recording && !is_recording_ && events_.empty()) recording_began_ = Clock::now();
  is_recording_ = is_recording;
}

std::vector<PhaseEvent> PhaseLog::take_events() { return std::exchange(events_, {}); }

void PhaseLog::begin(const char* name) {
  if (!is_own_thread()) return;
  const auto now = Clock::now();
  if (!open_.empty()) seconds_[open_.back().name] += seconds_of(now - open_.back().counted);
  open_.push_back({name, now, now});
}

void PhaseLog::end() {
  if (!is_own_thread()) return;
  const auto now = Clock::now();
  const Open ended = open_.back();
  open_.pop_back();
  seconds_[ended.name] += seconds_of(now - ended.counted);
  if (!open_.empty()) open_.back().counted = now;
  keep(ended.name, -1, ended.begin);
}

void PhaseLog::keep(const char* name, int64_t number, Clock::time_point begin) {
  if (!is_recording_ || !is_own_thread() || begin < recording_began_) return;
  events_.push_back({name, number, 1e6 * seconds_of(begin - recording_began_),
                     1e6 * seconds_of(Clock::now() - begin)});
}

std::string to_chrome_trace(const std::vector<PhaseEvent>& events, int rank) {
  std::string text = concat("{\"displayTimeUnit\": \"ms\", \"traceEvents\": [\n",
                            "{\"name\": \"process_name\", \"ph\": \"M\", \"pid\": ", rank,
                            ", \"tid\": 0, \"args\": {\"name\": \"rank ", rank, "\"}}");
  for (const PhaseEvent& event : events) {
    const std::string number = event.number < 0 ? "" : concat(' ', event.number);
    text +=
        concat(",\n{\"name\": \"", event.name, number, "\", \"cat\": \"", event.name,
               "\", \"ph\": \"X\", \"ts\": ", time_text(event.begin_microseconds),
               ", \"dur\": ", time_text(event.microseconds), ", \"pid\": ", rank, ", \"tid\": 0}");
  }
  return text + "\n]}\n";
}

}  // namespace temper
