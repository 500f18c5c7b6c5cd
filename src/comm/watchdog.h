// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "comm/communicator.h"
#include "comm/mpi_session.h"
#include "comm/watch_link.h"
#include "comm/watch_peers.h"
#include "comm/watchdog_options.h"

namespace temper {

/// Ends the job when a rank is lost, since MPI itself would wait for it for ever.
///
/// A thread of each rank tells the rank that watches it once a second over TCP where its rank is,
/// and is told the same by it (WatchTree); MPI takes no part, so that a rank that hangs in it is
/// heard of all the same. The job ends with ExitCode::kComm:
/// - within two seconds when a rank's process ends without leaving;
/// - after `silence_seconds` when a rank, its node or its network stands still;
/// - after `stall_seconds` when all are there, but no collective begins or ends, and no LocalWork
///   goes on.
/// The log then names the rank, its node and step, and its last collectives as it told them last.
/// Rank 0 also names ranks that take far longer for their own work than most.
class Watchdog {
 public:
  /// Collective: all ranks. Throws: CommError if one that watches others cannot listen.
  Watchdog(const MpiSession& session, Communicator& ranks, const WatchdogOptions& options);
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  /// Tells the others that this rank leaves. Local.
  ~Watchdog();

 private:
  using Clock = WatchPeers::Clock;

  void meet(Communicator& ranks);
  std::optional<WatchLink> reach(int watcher, const std::vector<uint32_t>& addresses,
                                 uint16_t port);
  void admit(WatchListener& listener, int64_t num_joined);
  void run(const std::stop_token& stop);
  void speak(bool is_leaving);
  void look_for_loss();
  void look_for_silence();
  void look_for_stall();
  void name_stragglers();
  const std::string& node_of(int64_t rank) const;
  std::string last_of(int64_t rank) const;
  [[noreturn]] void end_job(int64_t rank, const std::string& reason);

  const MpiSession& session_;
  WatchdogOptions options_;
  WatchTree tree_;
  uint64_t token_ = 0;
  std::optional<WatchPeers> peers_;  // Once the ranks have met.
  Clock::time_point stragglers_named_;
  std::mutex mutex_;
  std::condition_variable_any stopped_;
  std::jthread thread_;  // Last, so that all else exists when it starts.
};

}  // namespace temper
