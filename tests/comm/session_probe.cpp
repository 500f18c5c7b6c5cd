// SPDX-License-Identifier: Apache-2.0
// A small program as `temper` is one; session_test.py starts it and looks at how it ends.
//
//   probe facts    prints what the session knows
//   probe throw    rank 1 fails while the others wait for it; caught in main
//   probe device   asks for a GPU
//   probe leave    twenty times, all but rank 0 leave the watchdog as soon as they have met it
//   probe wait     rank 0 comes late; prints what share of a core each other took waiting for it
//   probe stop     the last rank stands still, which is noticed by whoever watches it
//   with a number after these, so many ranks are watched by one, and others by leaders of groups
//   probe unwind   the same, but the session goes down with the exception
#include <ATen/ops/zeros.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <string>
#include <thread>

#include "comm/make_communicator.h"
#include "comm/mpi_session.h"
#include "comm/watchdog.h"
#include "core/error.h"
#include "core/log.h"

namespace {

void print_facts(const temper::MpiSession& session) {
  const auto ranks = make_communicator(session, at::kCPU);
  std::printf("rank %d of %d, %d of %d on %s\n", ranks->rank(), ranks->world_size(),
              session.local_rank(), session.local_size(),
              session.host_names().at(static_cast<size_t>(session.rank())).c_str());
}

// Rank 1 leaves with a collective under way that no other joins, while they wait in another group.
void fail_on_rank_1(const temper::MpiSession& session) {
  const auto ranks = make_communicator(session, at::kCPU);
  const auto others = make_communicator(session, at::kCPU);
  if (ranks->rank() != 1) others->barrier();
  const at::Tensor shard = at::zeros({1 << 20}), full = at::zeros({ranks->world_size() << 20});
  const temper::Pending pending = ranks->all_gather(shard, full);
  throw temper::DataError("a shard is torn", "another one");
}

void leave_at_once(const temper::MpiSession& session, const temper::WatchdogOptions& options) {
  const auto ranks = make_communicator(session, at::kCPU);
  for (int round = 0; round < 20; ++round) {
    const temper::Watchdog watchdog(session, *ranks, options);
    if (session.rank() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

void wait_for_rank_0(const temper::MpiSession& session) {
  constexpr double kSeconds = 2.0;
  const auto ranks = make_communicator(session, at::kCPU);
  ranks->barrier();
  const std::clock_t before = std::clock();
  if (ranks->rank() == 0) std::this_thread::sleep_for(std::chrono::duration<double>(kSeconds));
  ranks->barrier();
  const double used = static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC;
  if (ranks->rank() > 0) std::printf("%.3f\n", used / kSeconds);
}

void stand_still(const temper::MpiSession& session, const temper::WatchdogOptions& options) {
  const auto ranks = make_communicator(session, at::kCPU);
  const temper::Watchdog watchdog(session, *ranks, options);
  temper::set_log_rank(session.rank(), session.world_size());
  ranks->barrier();
  if (session.rank() == session.world_size() - 1) std::raise(SIGSTOP);
  ranks->barrier();
}

}  // namespace

int main(int argc, char** argv) {
  const std::string mode = argc > 1 ? argv[1] : "facts";
  temper::WatchdogOptions options{.silence_seconds = 3.0};
  if (argc > 2) options.most_watched_by_one = std::stoi(argv[2]);
  if (mode == "unwind") {
    try {
      const temper::MpiSession session;
      fail_on_rank_1(session);
    } catch (const std::exception&) {
      std::puts("not reached: the session ends the job");
    }
    return 0;
  }
  const temper::MpiSession session;
  try {
    if (mode == "facts") print_facts(session);
    if (mode == "device") make_communicator(session, at::kCUDA);
    if (mode == "leave") leave_at_once(session, options);
    if (mode == "wait") wait_for_rank_0(session);
    if (mode == "stop") stand_still(session, options);
    if (mode == "throw") fail_on_rank_1(session);
  } catch (const temper::Error& error) {
    std::fprintf(stderr, "rank %d: %s\n", session.rank(), error.what());
    session.abort(error.code());
  }
  return 0;
}
