// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <list>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "comm/watch_link.h"

namespace temper {

/// Who watches whom. Few ranks are all watched by rank 0. Of many, each first one of a group of
/// consecutive ranks, its leader, watches the group and tells rank 0 of it, and rank 0 watches its
/// own group and the leaders: about 2 sqrt(n) links for the ranks with the most.
class WatchTree {
 public:
  explicit WatchTree(int num_ranks, int most_watched_by_one);

  /// The rank that watches this one; -1 for rank 0.
  int watcher_of(int rank) const;

  /// How many ranks it watches.
  int num_watched_by(int rank) const;

 private:
  int num_ranks_;
  int group_size_;
};

/// The links of one rank to those that it watches and to the one that watches it, and what each
/// rank that is heard of told last.
class WatchPeers {
 public:
  using Clock = std::chrono::steady_clock;

  struct Peer {
    int64_t rank = -1;
    WatchLink link;
    Clock::time_point heard = Clock::now();
    bool has_left = false;
  };

  struct Report {
    RankStatus status;
    Clock::time_point heard;
  };

  /// `token`: of the signs that count.
  explicit WatchPeers(uint64_t token) : token_(token) {}

  void add(int64_t rank, WatchLink link) { peers_.push_back({rank, std::move(link)}); }

  /// Adds a link whose other end has said which rank it is; false if it has not yet.
  bool admit(WatchLink& link, int64_t most_rank);

  /// Takes what has come: one poll, and one receive for each link on which something has. Does not
  /// block. Returns the rank at the other end of a link that has ended without leaving, if any.
  std::optional<int64_t> look();

  /// Tells all whose rank has not left.
  void send(const SignOfLife& sign);

  /// Tells `watcher` what the other ones that are heard of told last.
  void relay_to(int64_t watcher);

  /// The rank that was silent for longest, with its seconds; nothing if all have left.
  std::optional<std::pair<int64_t, double>> most_silent() const;

  /// All time of silence counts anew.
  void forgive();

  int64_t num_links() const { return static_cast<int64_t>(peers_.size()); }

  /// [rank], of those that were heard of.
  const std::map<int64_t, Report>& reports() const { return reports_; }

 private:
  void take(Peer& peer, const SignOfLife& sign);

  uint64_t token_;
  std::list<Peer> peers_;
  std::map<int64_t, Report> reports_;
};

/// Of ranks of which none goes on: the one that has begun the fewest collectives, and how long
/// none of them began or ended one or went on with work of its own. Units: seconds.
struct Stall {
  int64_t slowest = 0;
  double seconds = 0.0;
};

/// `own` is rank 0's status.
Stall find_stall(const RankStatus& own, const std::map<int64_t, WatchPeers::Report>& others);

/// Lets this process open `num_more` files beside those that it has open, as far as the system
/// allows. Returns 0, or else the limit that would have to be set before the program starts.
int64_t make_room_for_files(int64_t num_more);

}  // namespace temper
