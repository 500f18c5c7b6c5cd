// SPDX-License-Identifier: Apache-2.0
#include "comm/collective_ring.h"

#include <algorithm>
#include <cstdio>

#include "core/concat.h"

namespace temper {
namespace {

constexpr double kOldShare = 0.8;  // Arbitrary: about five steps of memory.

std::string to_text(const RankStatus::Collective& one) {
  return concat('#', one.number, ' ', one.name.data(), ' ', one.num_bytes, " bytes ",
                one.is_done != 0 ? "done" : "under way");
}

}  // namespace

std::string to_text(const RankStatus& status) {
  std::string last;
  for (int64_t back = RankStatus::kNumKept - 1; back >= 0; --back) {
    const int64_t number = status.num_started - back;
    if (number < 1) continue;
    const auto& one = status.collectives.at(static_cast<size_t>(number % RankStatus::kNumKept));
    last += concat(last.empty() ? "" : ", ", to_text(one));
  }
  const std::string work = status.work[0] == '\0' ? "" : concat(" work=", status.work.data());
  return concat("step=", status.step, " last=\"", last.empty() ? "none" : last, '"', work);
}

CollectiveRing& CollectiveRing::own() {
  static CollectiveRing ring;
  return ring;
}

int64_t CollectiveRing::begin(const char* name, int64_t num_bytes) {
  const std::lock_guard lock(mutex_);
  const int64_t number = ++status_.num_started;
  auto& one = status_.collectives.at(static_cast<size_t>(number % RankStatus::kNumKept));
  one = {.number = number, .num_bytes = num_bytes};
  std::snprintf(one.name.data(), one.name.size(), "%s", name);
  last_change_ = Clock::now();
  return number;
}

void CollectiveRing::end(int64_t number) {
  const std::lock_guard lock(mutex_);
  auto& one = status_.collectives.at(static_cast<size_t>(number % RankStatus::kNumKept));
  if (one.number == number) one.is_done = 1;
  last_change_ = Clock::now();
}

void CollectiveRing::begin_step(int64_t step) {
  const std::lock_guard lock(mutex_);
  const auto now = Clock::now();
  const std::chrono::duration<double> whole = now - step_began_;
  const double own = std::max(0.0, whole.count() - waited_seconds_);
  if (status_.step > 0 && step == status_.step + 1) {
    const double kept = status_.num_steps_timed == 0 ? 0.0 : kOldShare;
    status_.own_seconds = kept * status_.own_seconds + (1.0 - kept) * own;
    ++status_.num_steps_timed;
  }
  status_.step = step;
  step_began_ = now;
  waited_seconds_ = 0.0;
}

void CollectiveRing::add_waiting(double seconds) {
  const std::lock_guard lock(mutex_);
  waited_seconds_ += seconds;
}

void CollectiveRing::begin_idle() {
  const std::lock_guard lock(mutex_);
  last_change_ = Clock::now();
}

void CollectiveRing::begin_work(const char* name) {
  const std::lock_guard lock(mutex_);
  std::snprintf(status_.work.data(), status_.work.size(), "%s", name);
  last_change_ = Clock::now();
}

RankStatus CollectiveRing::status() const {
  const std::lock_guard lock(mutex_);
  RankStatus status = status_;
  status.idle_seconds = std::chrono::duration<double>(Clock::now() - last_change_).count();
  return status;
}

}  // namespace temper
