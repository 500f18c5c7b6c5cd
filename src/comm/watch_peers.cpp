// SPDX-License-Identifier: Apache-2.0
#include "comm/watch_peers.h"

#include <poll.h>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <iterator>
#include <system_error>
#include <vector>

namespace temper {
namespace {

double seconds_since(WatchPeers::Clock::time_point then) {
  return std::chrono::duration<double>(WatchPeers::Clock::now() - then).count();
}

}  // namespace

WatchTree::WatchTree(int num_ranks, int most_watched_by_one)
    : num_ranks_(num_ranks),
      group_size_(num_ranks - 1 <= most_watched_by_one
                      ? num_ranks
                      : static_cast<int>(std::ceil(std::sqrt(num_ranks)))) {}

int WatchTree::watcher_of(int rank) const {
  if (rank == 0) return -1;
  const int place = rank % group_size_;
  return place == 0 ? 0 : rank - place;
}

int WatchTree::num_watched_by(int rank) const {
  if (rank % group_size_ != 0) return 0;
  const int in_group = std::min(group_size_, num_ranks_ - rank) - 1;
  const int num_groups = (num_ranks_ + group_size_ - 1) / group_size_;
  return rank == 0 ? in_group + num_groups - 1 : in_group;
}

bool WatchPeers::admit(WatchLink& link, int64_t most_rank) {
  const std::vector<SignOfLife> signs = link.receive();
  const auto own = std::ranges::find(signs, token_, &SignOfLife::token);
  if (own == signs.end()) return false;
  add(std::clamp<int64_t>(own->rank, 1, most_rank), std::move(link));
  for (const SignOfLife& sign : signs) take(peers_.back(), sign);  // It may be leaving already.
  return true;
}

std::optional<int64_t> WatchPeers::look() {
  std::vector<pollfd> sockets;
  std::vector<Peer*> polled;  // [socket]
  for (Peer& peer : peers_) {
    if (peer.has_left) continue;
    sockets.push_back({peer.link.socket(), POLLIN, 0});
    polled.push_back(&peer);
  }
  if (::poll(sockets.data(), sockets.size(), /*timeout_ms=*/0) <= 0) return std::nullopt;
  std::optional<int64_t> lost;
  for (size_t i = 0; i < sockets.size(); ++i) {
    if (sockets[i].revents == 0) continue;
    for (const SignOfLife& sign : polled[i]->link.receive()) take(*polled[i], sign);
    if (polled[i]->link.is_closed() && !polled[i]->has_left && !lost) lost = polled[i]->rank;
  }
  return lost;
}

// A leader tells of its group, too.
void WatchPeers::take(Peer& peer, const SignOfLife& sign) {
  if (sign.token != token_) return;
  peer.heard = Clock::now();
  reports_[sign.rank] = {sign.status, peer.heard};
  if (sign.rank == peer.rank) peer.has_left = sign.is_leaving != 0;
}

void WatchPeers::send(const SignOfLife& sign) {
  for (Peer& peer : peers_) {
    if (!peer.has_left) peer.link.send(sign);
  }
}

void WatchPeers::relay_to(int64_t watcher) {
  const auto to = std::ranges::find(peers_, watcher, &Peer::rank);
  if (to == peers_.end() || to->has_left) return;
  for (const auto& [rank, report] : reports_) {
    if (rank == watcher) continue;
    SignOfLife sign{.token = token_, .rank = rank, .is_leaving = 0, .status = report.status};
    sign.status.idle_seconds += seconds_since(report.heard);
    to->link.send(sign);
  }
}

std::optional<std::pair<int64_t, double>> WatchPeers::most_silent() const {
  std::optional<std::pair<int64_t, double>> found;
  for (const Peer& peer : peers_) {
    const double seconds = seconds_since(peer.heard);
    if (!peer.has_left && (!found || seconds > found->second)) found = {peer.rank, seconds};
  }
  return found;
}

void WatchPeers::forgive() {
  for (Peer& peer : peers_) peer.heard = Clock::now();
}

Stall find_stall(const RankStatus& own, const std::map<int64_t, WatchPeers::Report>& others) {
  Stall stall{.slowest = 0, .seconds = own.idle_seconds};
  int64_t fewest = own.num_started;
  for (const auto& [rank, report] : others) {
    const double idle = report.status.idle_seconds + seconds_since(report.heard);
    stall.seconds = std::min(stall.seconds, idle);
    if (report.status.num_started >= fewest) continue;
    fewest = report.status.num_started;
    stall.slowest = rank;
  }
  return stall;
}

int64_t make_room_for_files(int64_t num_more) {
  std::error_code error;
  const std::filesystem::directory_iterator open("/proc/self/fd", error);
  if (error) return 0;
  const auto wanted = static_cast<rlim_t>(std::distance(begin(open), end(open)) + num_more);
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted) return 0;
  const bool is_allowed = limit.rlim_max >= wanted;
  limit.rlim_cur = std::min(limit.rlim_max, wanted);
  const bool is_set = ::setrlimit(RLIMIT_NOFILE, &limit) == 0;
  return is_allowed && is_set ? 0 : static_cast<int64_t>(wanted);
}

}  // namespace temper
