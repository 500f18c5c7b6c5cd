// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <list>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "comm/communicator.h"
#include "comm/mpi_session.h"
#include "comm/watch_link.h"
#include "comm/watchdog_options.h"

namespace temper {

/// Ends the job when a rank is lost, since MPI itself would wait for it for ever.
///
/// A thread of each rank tells rank 0 once a second over TCP where its rank is, and rank 0 tells
/// all; MPI takes no part, so that a rank that hangs in it is heard of all the same. The job ends
/// with ExitCode::kComm:
/// - within two seconds when a rank's process ends without leaving;
/// - after `silence_seconds` when a rank, its node or its network stands still;
/// - after `stall_seconds` when all are there, but no collective begins or ends.
/// The log then names the rank, its node and step, and its last collectives as it told them last.
/// Rank 0 also names ranks that take far longer for their own work than most.
class Watchdog {
 public:
  /// Collective: all ranks. Throws: CommError if rank 0 cannot listen.
  Watchdog(const MpiSession& session, Communicator& ranks, const WatchdogOptions& options);
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  /// Tells the others that this rank leaves. Local.
  ~Watchdog();

 private:
  using Clock = std::chrono::steady_clock;

  struct Peer {
    int64_t rank = -1;
    WatchLink link;
    Clock::time_point heard = Clock::now();
    RankStatus status = {};
    bool has_left = false;
  };

  void meet(Communicator& ranks);
  std::optional<WatchLink> reach_rank_0(const std::vector<uint32_t>& addresses, uint16_t port);
  void admit(WatchListener& listener, int64_t num_joined);
  bool tells_its_rank(Peer& peer) const;
  void run(const std::stop_token& stop);
  void forgive();
  void listen(Peer& peer);
  static void take(Peer& peer, const SignOfLife& sign);
  void speak(bool is_leaving);
  void look_for_loss();
  void look_for_stall();
  void name_stragglers();
  [[noreturn]] void end_job(const Peer& peer, const std::string& reason);
  [[noreturn]] void end_job(int64_t rank, const std::string& last, const std::string& reason);

  const MpiSession& session_;
  WatchdogOptions options_;
  uint64_t token_ = 0;
  std::list<Peer> peers_;  // All others on rank 0; rank 0 elsewhere.
  Clock::time_point stragglers_named_;
  std::jthread thread_;  // Last, so that all else exists when it starts.
};

}  // namespace temper
